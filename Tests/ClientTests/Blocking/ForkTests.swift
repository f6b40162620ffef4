// A process that forks with connections open: parent and child must not get each other's answers.

import Foundation
import Smalloc
import Testing
import TestSupport

@Suite("Forks", .timed)
struct ForkTests {
    /// Runs a body in a fork of this process.
    ///
    /// - Returns: What the child exits with: the body's result, or that of a signal.
    private func inChild(_ body: () -> Int32) throws -> Int32 {
        typealias Fork = @convention(c) () -> pid_t
        // Swift does not offer it, since a child has but one of its parent's threads.
        let fork = unsafeBitCast(try #require(dlsym(nil, "fork")), to: Fork.self)
        let child = fork()
        if child == 0 {
            alarm(20)
            _exit(body())
        }
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0 {}
        return status & 0x7F == 0 ? status >> 8 & 0xFF : -status
    }

    // In a child there is nobody else who opens and closes descriptors.
    @Test(
        "a descriptor that a process has no room for ends the connection, and says why",
        arguments: [0, 1])
    func limited(room: Int) throws {
        let address = try SharedDaemon.address
        let result = try inChild {
            guard let smalloc = try? Smalloc(address), let a = try? smalloc.alloc(100) else {
                return 1
            }
            // With the first map two come: the state memory's is missing, or both.
            let limit = DescriptorRoom.limit(to: room)
            let error = failure { () throws(SmallocError) in _ = try a.map(UInt8.self) }
            if error?.status != .connectionLost { return 2 }
            if error?.message.contains("ulimit -n") != true { return 3 }
            if smalloc.isConnected { return 4 }
            // What had come is closed.
            let free = dup(STDIN_FILENO)
            if room > 0, free < 0 { return 5 }
            close(free)
            DescriptorRoom.reset(limit)
            guard let map = try? smalloc.alloc(100).map(UInt8.self) else { return 6 }
            return map.isLive ? 0 : 7
        }
        #expect(result == 0)
    }

    @Test("a child is refused plainly, and the parent's connection goes on")
    func blocking() throws {
        let smalloc = try SharedDaemon.connect()
        let a = try smalloc.alloc(4)
        let b = try smalloc.alloc(4)
        try a.write([1, 2, 3, 4] as [UInt8])
        try b.set(9, at: 0)
        let result = try inChild {
            var wrong: Int32 = 0
            func expect(_ number: Int32, _ body: () throws(SmallocError) -> Void) {
                let error = failure(body)
                if error?.status != .forked || error?.isTransport != true
                    || error?.message.contains("connect anew") != true
                {
                    wrong = number
                }
            }
            expect(1) { () throws(SmallocError) in _ = try a.get(0) }
            expect(2) { () throws(SmallocError) in try a.write([5, 6, 7, 8] as [UInt8]) }
            expect(3) { () throws(SmallocError) in try smalloc.ping() }
            expect(4) { () throws(SmallocError) in _ = try smalloc.batch { $0.get(0, of: a) } }
            expect(5) { () throws(SmallocError) in try b.dispose() }
            if smalloc.isConnected { wrong = 6 }
            // A connection of the child's own works.
            let own = failure { () throws(SmallocError) in
                let smalloc = try Smalloc(address: smalloc.address)
                try smalloc.ping()
            }
            if own != nil { wrong = 7 }
            smalloc.close()
            return wrong
        }
        #expect(result == 0)
        #expect(smalloc.isConnected)
        #expect(try a.read(UInt8.self) == [1, 2, 3, 4])
        #expect(try b.get(0) == 9)
    }

    @Test("a child's default connection is one of its own")
    func standard() throws {
        setenv("SMALLOC_ADDRESS", try SharedDaemon.address, 1)
        defer { unsetenv("SMALLOC_ADDRESS") }
        let a = try smalloc.alloc(1)
        try a.set(1, at: 0)
        let result = try inChild {
            let old = failure { () throws(SmallocError) in _ = try a.get(0) }
            guard old?.status == .forked else { return 1 }
            let new = failure { () throws(SmallocError) in try smalloc.alloc(1).set(2, at: 0) }
            return new == nil ? 0 : 2
        }
        #expect(result == 0)
        #expect(try a.get(0) == 1)
        #expect(try smalloc.isConnected)
    }

    @Test("what a child releases stays open in the parent")
    func released() throws {
        let smalloc = try SharedDaemon.connect()
        var kept: Allocation? = try smalloc.alloc(4)
        try kept?.set(5, at: 1)
        let handles = try #require(kept?.stat().handles)
        let result = try inChild {
            // The last reference that the child has.
            kept = nil
            return kept == nil ? 0 : 1
        }
        #expect(result == 0)
        #expect(try kept?.get(1) == 5)
        #expect(try kept?.stat().handles == handles)
    }

    /// Where memory of so many bytes, which daemons share, is mapped in the process that calls.
    private func sharedMappings(of size: Int) -> [UnsafeMutableRawPointer] {
        guard let file = fopen("/proc/self/maps", "r") else { return [] }
        defer { fclose(file) }
        var found: [UnsafeMutableRawPointer] = []
        var line = [CChar](repeating: 0, count: 1024)
        while let text = fgets(&line, 1024, file).map({ String(cString: $0) }) {
            let ends = text.prefix { $0 != " " }.split(separator: "-")
                .compactMap { UInt($0, radix: 16) }
            guard text.contains("/memfd:"), ends.count == 2, ends[1] - ends[0] == UInt(size),
                let start = UnsafeMutableRawPointer(bitPattern: ends[0])
            else { continue }
            found.append(start)
        }
        return found
    }

    @Test("a child has the mappings that its parent asked for, and none that it did not")
    func mappings() async throws {
        let smalloc = try SharedDaemon.connect()
        // A size that no other test has.
        let size = 1_167_360
        var a: Allocation? = try smalloc.alloc(size)
        let daemon = try await SharedDaemon.connectAsync()
        let b = try await daemon.alloc(size)
        let bytes = [UInt8](repeating: 7, count: size)
        for _ in 0..<2 {
            try a?.write(bytes)
            try await b.write(bytes)
        }
        let places = sharedMappings(of: size)
        #expect(places.count == 2)
        let c = try smalloc.alloc(1000, .int32)
        let map = try c.map(Int32.self)
        map[1] = 5
        let result = try inChild {
            guard sharedMappings(of: size).isEmpty else { return 1 }
            let late = failure { () throws(SmallocError) in try a?.write(bytes) }
            guard late?.status == .forked else { return 2 }
            // What the child puts there stays there.
            for place in places {
                let flags = Int32(MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
                guard mmap(place, size, PROT_READ | PROT_WRITE, flags, -1, 0) == place else {
                    return 3
                }
            }
            a = nil
            for place in places { place.storeBytes(of: 9, as: UInt8.self) }
            guard map[1] == 5, map.isLive, map.atomicAdd(1, at: 1) == 5 else { return 4 }
            return 0
        }
        #expect(result == 0)
        #expect(map[1] == 6)
        #expect(try c.get(1) == 6)
        #expect(try a?.read(UInt8.self) == bytes)
        #expect(sharedMappings(of: size).count == 2)
        _ = b
    }

    @Test("a child leaves the parent's tasks their connection")
    func tasks() async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        let a = try await smalloc.alloc(4)
        try await a.set(3, at: 2)
        let handles = try await a.stat().handles
        let slice = try a[1...]
        let result = try inChild {
            if smalloc.isConnected { return 1 }
            let wrong = Wrong()
            // A child has no threads for tasks: this one runs until it would wait, and none of
            // these calls waits for anything.
            Task.immediate {
                await wrong.expectForked(2) { () async throws(SmallocError) in
                    _ = try await a.get(2)
                }
                await wrong.expectForked(3) { () async throws(SmallocError) in
                    try await a.write([UInt8](repeating: 1, count: 4))
                }
                await wrong.expectForked(4) { () async throws(SmallocError) in
                    try await smalloc.ping()
                }
                await wrong.expectForked(5) { () async throws(SmallocError) in
                    _ = try await smalloc.batch { _ = $0.get(0, of: a) }
                }
                await wrong.expectForked(6) { () async throws(SmallocError) in
                    try await a.dispose()
                }
                await wrong.expectForked(7) { () async throws(SmallocError) in
                    _ = try await smalloc.stat(["a", "b"])
                }
                wrong.isOver = true
            }
            a.close()
            slice.close()
            smalloc.close()
            return wrong.isOver ? wrong.number : 8
        }
        #expect(result == 0)
        #expect(try await a.get(2) == 3)
        #expect(try await a.stat().handles == handles)
        #expect(smalloc.isConnected)
    }
}

/// What of a child's calls did not go as it should.
private final class Wrong: @unchecked Sendable {
    /// Of the last such call; 0: none.
    var number: Int32 = 0
    var isOver = false

    func expectForked(_ call: Int32, _ body: () async throws(SmallocError) -> Void) async {
        if await failure(body)?.status != .forked { number = call }
    }
}
