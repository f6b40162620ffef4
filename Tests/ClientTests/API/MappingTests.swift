// An allocation as memory of the process: the same bytes as by the socket, for as long as the
// object lives, whatever becomes of the allocation and the daemon.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Mappings", .timed)
struct MappingTests {
    private static let lengths = [0, 1, 1000, 8192, 300_000]

    @Test(
        "what is stored through a mapping is read by the socket, and the other way",
        arguments: lengths)
    func same(_ length: Int) throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(length, .double)
        try a.write((0..<length).map(Double.init))
        let map = try a.map(Double.self)
        #expect(map.count == length && map.isLive && map.liveCount == length && map.isWritable)
        #expect(map.indices.allSatisfy { map[$0] == Double($0) })
        for i in map.indices { map[i] *= 2 }
        #expect(try a.read(Double.self) == (0..<length).map { Double(2 * $0) })
        let sum = map.withSpan { span in
            var sum = 0.0
            for i in span.indices { sum += span[i] }
            return sum
        }
        #expect(sum == Double(length * max(0, length - 1)))
        if length > 0 {
            map.withMutableSpan { $0[length - 1] = -1 }
            #expect(try a.get(length - 1) == -1)
            try a.set(7, at: 0)
            #expect(map[0] == 7)
        }
        // Another connection maps the same.
        let name = SharedDaemon.name()
        try a.rename(to: name)
        let other = try SharedDaemon.connect().open(name).map(Double.self, writable: false)
        #expect(!other.isWritable && other.count == length)
        if length > 0 { #expect(other[0] == 7) }
        try smalloc.dispose(named: name)
        #expect(length == 0 || (!map.isLive && map.liveCount == 0 && map[0] == 7))
    }

    @Test("an index outside stops the program, which names it and the count")
    func outside() async throws {
        let address = try SharedDaemon.address
        func errors(_ result: ExitTest.Result) -> String {
            String(decoding: result.standardErrorContent, as: UTF8.self)
        }
        let read = try await #require(
            processExitsWith: .failure, observing: [\.standardErrorContent]
        ) { [address = address as String] in
            print(try Smalloc(address).alloc(5, .int32).map(Int32.self)[5])
        }
        #expect(errors(read).contains("index 5 is out of range of a mapping of 5 elements"))
        let write = try await #require(
            processExitsWith: .failure, observing: [\.standardErrorContent]
        ) { [address = address as String] in
            try Smalloc(address).alloc(7, .double).map(Double.self)[-1] = 1
        }
        #expect(errors(write).contains("index -1 is out of range of a mapping of 7 elements"))
        let atomic = try await #require(
            processExitsWith: .failure, observing: [\.standardErrorContent]
        ) { [address = address as String] in
            try Smalloc(address).alloc(7, .int32).map(Int32.self).atomicAdd(1, at: 7)
        }
        #expect(errors(atomic).contains("index 7 is out of range of a mapping of 7 elements"))
        let refused = try await #require(
            processExitsWith: .failure, observing: [\.standardErrorContent]
        ) { [address = address as String] in
            try Smalloc(address).alloc(7, .int32).map(Int32.self, writable: false)[0] = 1
        }
        #expect(errors(refused).contains("the mapping is for reading only"))
    }

    @Test("tasks map as well, many at a time")
    func tasks() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<40 {
                group.addTask {
                    let a = try await smalloc.alloc(100 + index * 1000, .int32)
                    try await a.fill(Double(index))
                    let map = try await a.map(Int32.self, populate: index % 2 == 0)
                    #expect(map.count == 100 + index * 1000)
                    #expect(map.indices.allSatisfy { map[$0] == Int32(index) })
                    map[5] = -9
                    #expect(try await a.get(5) == -9)
                    try await a.dispose()
                    #expect(map[5] == -9 && !map.isLive)
                }
            }
            try await group.waitForAll()
        }
    }

    @Test("a slice is mapped where it begins")
    func slices() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(1000, .int16)
        let map = try a.slice(100, 200).map(Int16.self)
        #expect(map.count == 100)
        map[0] = 5
        map[99] = 6
        #expect(try a.get(100) == 5)
        #expect(try a.get(199) == 6)
        try a.truncate(150)
        #expect(map.liveCount == 50)
        #expect(eventually { map[99] == 6 || map[99] == 0 })
    }

    @Test("the type must be the allocation's, and TCP has no map")
    func refused() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(10, .double)
        #expect(
            failure { () throws(SmallocError) in _ = try a.map(Float.self) }?.status
                == .invalidArgument)
        let daemon = try DaemonProcess(tcp: true)
        defer { daemon.kill() }
        let remote = try Smalloc("tcp:127.0.0.1:\(try #require(daemon.port))")
        let b = try remote.alloc(10, .double)
        let error = failure { () throws(SmallocError) in _ = try b.map(Double.self) }
        #expect(error?.status == .unknownOperation)
        #expect(error?.message == "map needs a Unix socket")
    }

    @Test("what is frozen is mapped for reading only")
    func frozen() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(10, .double)
        var map: Smalloc.Mapping<Double>? = try a.map()
        map?[3] = 4
        #expect(failure { () throws(SmallocError) in try a.freeze() }?.status == .busy)
        map = nil
        try a.freeze()
        #expect(failure { () throws(SmallocError) in try a.set(1, at: 0) }?.status == .frozen)
        #expect(
            failure { () throws(SmallocError) in _ = try a.map(Double.self) }?.status == .frozen)
        let again = try a.map(Double.self, writable: false)
        #expect(again[3] == 4)
    }

    @Test("the library's own mappings do not stand in the way of a freeze by another handle")
    func frozenBeside() throws {
        let smalloc = try SharedDaemon.connect()
        let bytes = [UInt8](repeating: 1, count: 1 << 20)
        for byName in [true, false] {
            let name = SharedDaemon.name()
            let a = try smalloc.alloc(1 << 20, named: name)
            for _ in 0..<3 { try a.write(bytes) }
            #expect(try a.stat().maps == .writable)
            let other = try SharedDaemon.connect()
            let busy = failure { () throws(SmallocError) in try other.freeze(name) }
            #expect(busy?.status == .busy, "what another connection has mapped is in the way")
            if byName { try smalloc.freeze(name) } else { try smalloc.open(name).freeze() }
            let frozen = failure { () throws(SmallocError) in try a.write(bytes) }
            #expect(frozen?.status == .frozen)
            #expect(try a.read(UInt8.self) == bytes)
        }
    }

    @Test("a mapping of nothing is live, and has nothing")
    func empty() throws {
        let a = try SharedDaemon.connect().alloc(0)
        let map = try a.map(UInt8.self)
        try a.dispose()
        #expect(map.isLive && map.liveCount == 0 && map.count == 0)
    }

    @Test("a mapping outlives the daemon, and leaves nothing in one that goes on")
    func ends() throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let a = try smalloc.alloc(1 << 20, .double)
        try a.fill(1.5)
        let before = try daemon.figures().descriptors
        for _ in 0..<20 {
            let map = try a.map(Double.self)
            #expect(map[1 << 19] == 1.5)
        }
        #expect(try daemon.figures().descriptors <= before + 2)
        let map = try a.map(Double.self)
        daemon.kill()
        map[0] = 3
        #expect(map[0] == 3 && map[map.count - 1] == 1.5)
    }

    @Test("large transfers answer the same by a mapping and by the socket")
    func large() throws {
        var options = Smalloc.Options()
        let count = 200_000
        var random = SplitMix(for: "large transfers by mappings")
        for maps in [true, false] {
            options.mapsLargeTransfers = maps
            let smalloc = try SharedDaemon.connect(options)
            let onlooker = try SharedDaemon.connect()
            let name = SharedDaemon.name()
            let a = try smalloc.alloc(count, named: name, .int32)
            var model = [Int32](repeating: 0, count: count)
            for round in 0..<12 {
                let start = Int(random.next() % 1000)
                let part = (0..<count - 2000).map { _ in Int32(truncatingIfNeeded: random.next()) }
                try a.write(part, at: start)
                model.replaceSubrange(start..<start + part.count, with: part)
                #expect(try a.read(Int32.self) == model, "round \(round)")
                #expect(try onlooker.open(name).read(Int32.self) == model)
            }
            let other = try onlooker.open(name)
            try other.truncate(150_000)
            let late = failure { () throws(SmallocError) in
                _ = try a.read(Int32.self, from: 0, count: count)
            }
            #expect(late?.status == .outOfRange)
            #expect(try a.read(Int32.self, from: 0, count: 150_000) == Array(model[..<150_000]))
            if !maps { try other.freeze() }
            if maps {
                // Its own mapping does not stand in the way.
                try a.freeze()
            }
            let frozen = failure { () throws(SmallocError) in
                try a.write([Int32](repeating: 1, count: 100_000))
            }
            #expect(frozen?.status == .frozen)
            #expect(try a.read(Int32.self, from: 0, count: 150_000) == Array(model[..<150_000]))
            try onlooker.dispose(named: name)
            let gone = failure { () throws(SmallocError) in
                _ = try a.read(Int32.self, from: 0, count: 150_000)
            }
            #expect(gone?.status == .noData)
        }
    }

    @Test("a large write to a daemon that is gone is no success")
    func gone() throws {
        let daemon = try DaemonProcess()
        let smalloc = try Smalloc("unix:\(daemon.path)")
        let a = try smalloc.alloc(1 << 20, .uint8)
        for _ in 0..<3 { try a.write([UInt8](repeating: 1, count: 1 << 20)) }
        daemon.kill()
        let error = failure { () throws(SmallocError) in
            try a.write([UInt8](repeating: 2, count: 1 << 20))
        }
        #expect(error?.status == .connectionLost)
    }
}
