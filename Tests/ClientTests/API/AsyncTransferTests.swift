// Many bytes at a time from tasks: by a mapping where that can be, with the answers of the socket.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Large transfers of tasks", .timed)
struct AsyncTransferTests {
    private func options(maps: Bool) -> Smalloc.Options {
        var options = Smalloc.Options()
        options.mapsLargeTransfers = maps
        return options
    }

    @Test(
        "they answer the same by a mapping and by the socket", arguments: Place.allCases,
        [true, false])
    func same(_ place: Place, maps: Bool) async throws {
        let smalloc = try await SharedDaemon.connectAsync(options(maps: maps))
        let onlooker = try SharedDaemon.connect()
        try await place.tasks(1, on: smalloc) { _ in
            var random = SplitMix(for: "large transfers of tasks")
            let count = 500_000
            let name = SharedDaemon.name()
            let a = try await smalloc.alloc(count, named: name, .int32)
            var model = [Int32](repeating: 0, count: count)
            for round in 0..<5 {
                let start = Int(random.next() % 1000)
                let part = (0..<count - 2000).map { _ in Int32(truncatingIfNeeded: random.next()) }
                try await a.write(part, at: start)
                model.replaceSubrange(start..<start + part.count, with: part)
                let read = try await a.read(Int32.self)
                #expect(read == model, "round \(round)")
                let other = try onlooker.open(name).read(Int32.self)
                #expect(other == model, "round \(round)")
            }
            let bytes = try await a.readBytes(from: 1)
            #expect(bytes == model[1...].withUnsafeBytes { Array($0) })
            let numbers = try await a.numbers(from: 1000, count: 100_000)
            #expect(numbers == model[1000..<101_000].map { Double($0) })
            try await a.store(numbers, at: 0)
            model.replaceSubrange(0..<100_000, with: model[1000..<101_000])
            let stat = try await a.stat()
            #expect(stat.isShared == maps && stat.maps == (maps ? .writable : .none))

            let other = try onlooker.open(name)
            try other.truncate(150_000)
            let late = await failure { () async throws(SmallocError) in
                _ = try await a.read(Int32.self, from: 0, count: count)
            }
            #expect(late?.status == .outOfRange)
            let short = try await a.read(Int32.self, from: 0, count: 150_000)
            #expect(short == Array(model[..<150_000]))
            // Its own mapping does not stand in the way.
            try await a.freeze()
            let frozen = await failure { () async throws(SmallocError) in
                try await a.write([Int32](repeating: 1, count: 100_000))
            }
            #expect(frozen?.status == .frozen)
            let still = try await a.read(Int32.self, from: 0, count: 150_000)
            #expect(still == Array(model[..<150_000]))
            try onlooker.dispose(named: name)
            let gone = await failure { () async throws(SmallocError) in
                _ = try await a.read(Int32.self, from: 0, count: 150_000)
            }
            #expect(gone?.status == .noData)
        }
    }

    @Test("the first goes by the socket, and so do those of less than 256 KiB")
    func few() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(1 << 20)
        for _ in 0..<3 { _ = try await a.read(UInt8.self, from: 0, count: (256 << 10) - 1) }
        _ = try await a.read(UInt8.self)
        #expect(try await !a.stat().isShared)
        _ = try await a.read(UInt8.self)
        #expect(try await a.stat().maps == .readOnly)
        // For writing only when something is written.
        try await a.write([UInt8](repeating: 1, count: 256 << 10))
        #expect(try await a.stat().maps == .writable)
        let port = try #require(try SharedDaemon.process.port)
        let remote = try await AsyncSmalloc("tcp:127.0.0.1:\(port)")
        let b = try await remote.alloc(1 << 20)
        for _ in 0..<3 { _ = try await b.read(UInt8.self) }
        #expect(try await !b.stat().isShared)
    }

    @Test("none overtakes a request that its task has given up")
    func order() async throws {
        let daemon = try DaemonProcess()
        defer { daemon.kill() }
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let a = try await smalloc.alloc(1 << 20)
        for _ in 0..<3 { try await a.write([UInt8](repeating: 1, count: 1 << 20)) }
        #expect(try await a.stat().maps == .writable)
        daemon.signal(SIGSTOP)
        let early = Task { try await a.write([UInt8](repeating: 2, count: 100)) }
        try await Task.sleep(for: .milliseconds(100))
        early.cancel()
        _ = await early.result
        let late = Task { try await a.write([UInt8](repeating: 3, count: 1 << 20)) }
        try await Task.sleep(for: .milliseconds(100))
        daemon.signal(SIGCONT)
        try await late.value
        #expect(try await a.get(0) == 3)
    }

    @Test("a task that is cancelled does not move on")
    func cancelled() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(8 << 20)
        for _ in 0..<3 { try await a.write([UInt8](repeating: 1, count: 8 << 20)) }
        let status = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await failure { () async throws(SmallocError) in
                try await a.write([UInt8](repeating: 2, count: 8 << 20))
            }?.status
        }.value
        #expect(status == .cancelled)
        #expect(try await a.get(0) == 1)
        // Mapping it can be tried again.
        let b = try await smalloc.alloc(8 << 20)
        _ = try await b.read(UInt8.self)
        let other = await Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await failure { () async throws(SmallocError) in
                _ = try await b.read(UInt8.self)
            }?.status
        }.value
        #expect(other == .cancelled)
        _ = try await b.read(UInt8.self)
        #expect(try await b.stat().maps == .readOnly)
    }

    @Test("other tasks of the same thread have their turns meanwhile")
    func turns() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(64 << 20)
        try await a.fill(1)
        for _ in 0..<2 { _ = try await a.read(UInt8.self) }
        #expect(try await a.stat().maps == .readOnly)
        let isDone = Guarded(false)
        let turns = Guarded(0)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask(executorPreference: smalloc.executor) {
                while !isDone.withLock({ $0 }) {
                    turns.withLock { $0 += 1 }
                    await Task.yield()
                }
            }
            group.addTask(executorPreference: smalloc.executor) {
                while turns.withLock({ $0 }) == 0 { await Task.yield() }
                let read = try await a.read(UInt8.self)
                isDone.withLock { $0 = true }
                #expect(read.count == 64 << 20 && read.last == 1)
            }
            try await group.waitForAll()
        }
        #expect(turns.withLock { $0 } >= 60)
    }

    @Test("a large write to a daemon that is gone is no success")
    func gone() async throws {
        let daemon = try DaemonProcess()
        let smalloc = try await AsyncSmalloc("unix:\(daemon.path)")
        let a = try await smalloc.alloc(1 << 20, .uint8)
        for _ in 0..<3 { try await a.write([UInt8](repeating: 1, count: 1 << 20)) }
        daemon.kill()
        let error = await failure { () async throws(SmallocError) in
            try await a.write([UInt8](repeating: 2, count: 1 << 20))
        }
        #expect(error?.status == .connectionLost)
    }

    @Test("their mappings do not stand in the way of a freeze by another handle")
    func frozenBeside() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let bytes = [UInt8](repeating: 1, count: 1 << 20)
        for byName in [true, false] {
            let name = SharedDaemon.name()
            let a = try await smalloc.alloc(1 << 20, named: name)
            for _ in 0..<3 { try await a.write(bytes) }
            let stat = try await a.stat()
            #expect(stat.maps == .writable)
            if byName {
                try await smalloc.freeze(name)
            } else {
                try await smalloc.open(name).freeze()
            }
            let frozen = await failure { () async throws(SmallocError) in try await a.write(bytes) }
            #expect(frozen?.status == .frozen)
        }
    }
}
