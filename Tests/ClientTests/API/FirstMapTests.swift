// The state memory, whose descriptor comes with the first map of a connection and never again.

import Smalloc
import Testing
import TestSupport

@Suite("First maps", .timed)
struct FirstMapTests {
    @Test("those that are asked for together all know whether their allocations live")
    func together() async throws {
        for _ in 0..<60 {
            let smalloc = try await SharedDaemon.connectAsync()
            var allocations: [AsyncAllocation] = []
            for _ in 0..<8 { allocations.append(try await smalloc.alloc(100_000)) }
            let maps = try await withThrowingTaskGroup(of: Smalloc.Mapping<UInt8>.self) { group in
                for a in allocations { group.addTask { try await a.map() } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(maps.allSatisfy { $0.isLive && $0.liveCount == 100_000 })
        }
    }

    @Test("one that is cancelled does not lose it for the others", arguments: 0..<6)
    func cancelled(milliseconds: Int) async throws {
        let smalloc = try await SharedDaemon.connectAsync()
        // Large enough that the answer takes some milliseconds.
        let large = try await smalloc.alloc(48 << 20)
        try await large.fill(1)
        let small = try await smalloc.alloc(100)
        let task = Task { try await large.map(UInt8.self) }
        try await Task.sleep(for: .milliseconds(milliseconds))
        task.cancel()
        _ = await task.result
        let map = try await small.map(UInt8.self)
        #expect(map.isLive)
        let again = try await large.map(UInt8.self, writable: false)
        #expect(again.isLive && again[47 << 20] == 1)
        try await large.dispose()
        #expect(!again.isLive && map.isLive)
    }

    @Test("a descriptor that the process has no room for ends the connection, and says why")
    func limited() async throws {
        let address = try SharedDaemon.address
        await #expect(processExitsWith: .success) { [address = address as String] in
            var lost: [SmallocError?] = []
            // Where the runtime closes one of its own meanwhile, all of them have room.
            for _ in 0..<20 where lost.isEmpty {
                let smalloc = try await AsyncSmalloc(address)
                var allocations: [AsyncAllocation] = []
                for _ in 0..<6 { allocations.append(try await smalloc.alloc(100_000)) }
                // With the first come two. None would have the runtime trap, which opens some, too.
                let limit = DescriptorRoom.limit(to: 1)
                lost = await withTaskGroup(of: SmallocError?.self) { group in
                    for a in allocations {
                        group.addTask {
                            await failure { () async throws(SmallocError) in
                                _ = try await a.map(UInt8.self)
                            }
                        }
                    }
                    return await group.reduce(into: []) { if $1 != nil { $0.append($1) } }
                }
                DescriptorRoom.reset(limit)
            }
            #expect(lost.count == 6)
            #expect(lost.allSatisfy { $0?.status == .connectionLost })
            #expect(lost.contains { $0?.message.contains("ulimit -n") == true })
        }
    }
}
