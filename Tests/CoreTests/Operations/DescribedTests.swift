// Allocations that a user has described: what stat tells, and that it costs what it takes.

@testable import SmallocCore
import SmallocWire
import Testing
import TestSupport

@Suite("Described allocations", .timed)
struct DescribedTests {
    private func description(_ shape: [UInt64]?, _ metadata: [UInt8] = []) -> [UInt8] {
        MemoryModel.Description(shape: shape, metadata: metadata).payload
    }

    /// What stat tells from its flags on, but for the owner.
    private func told(_ peer: TestPeer, _ name: String) -> [UInt8] {
        let payload = peer.call(.stat, name: name).payload.dropFirst(name.utf8.count)
        return Array(payload[(payload.startIndex + 24)..<(payload.startIndex + 56)])
            + Array(payload[(payload.startIndex + 64)...])
    }

    private func expected(
        _ shape: [UInt64]?, _ metadata: [UInt8], length: Int, flags: UInt64 = 32
    ) -> [UInt8] {
        numbers(flags, 0, .max, .max)
            + MemoryModel.Description(shape: shape, metadata: metadata).told(length)
    }

    @Test("every name goes with every size of a description, and renames leave it alone")
    func renames() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        for metadataSize in [0, 1, 8, 256] {
            for rank in [0, 1, 8] {
                let metadata = (0..<metadataSize).map { UInt8(truncatingIfNeeded: $0 + rank) }
                // One element of data that must stay, too.
                let shape = [UInt64](repeating: 1, count: rank)
                var name = "n"
                let made = peer.call(
                    .alloc, flags: 34, type: 10, name: name, size: 8,
                    payload: description(shape, metadata))
                #expect(made.outcome == "ok")
                let data: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
                peer.call(.write, name: name, size: 8, payload: data)
                for size in [8, 9, 255, 16, 1, 200, 17] {
                    let other = String(repeating: "r", count: size)
                    #expect(
                        peer.call(.rename, name: name, payload: Array(other.utf8)).outcome == "ok")
                    name = other
                    #expect(told(peer, name) == expected(shape, metadata, length: 1))
                    #expect(peer.call(.read, name: name, size: 8).payload == data)
                    daemon.registry.checkInvariants()
                }
                #expect(peer.call(.dispose, name: name).outcome == "ok")
                #expect(daemon.settledSize == 0)
            }
        }
    }

    @Test("a truncate ends the shape, and nothing brings it back")
    func truncate() {
        let peer = TestDaemon().greeted()
        for (size, unit) in [(UInt64(24), UInt64(1)), (240_000, 4)] {
            let type: UInt8 = unit == 1 ? 14 : 7
            let shape = [size / unit / 4, 4]
            peer.call(
                .alloc, flags: 34, type: type, name: "t", size: size,
                payload: description(shape, [9]))
            peer.call(.truncate, name: "t", size: size)
            #expect(told(peer, "t") == expected(shape, [9], length: Int(size / unit)))
            peer.call(.truncate, name: "t", size: size - unit)
            #expect(told(peer, "t") == expected(nil, [9], length: Int(size / unit) - 1))
            peer.call(.truncate, name: "t", size: 0)
            #expect(told(peer, "t") == expected(nil, [9], length: 0))
            peer.call(.dispose, name: "t")
        }
    }

    @Test("one that takes the place of another has its own description")
    func replace() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        peer.call(
            .alloc, flags: 34, type: 2, name: "old", size: 6, payload: description([2, 3], [1]))
        peer.call(
            .alloc, flags: 34, type: 2, name: "new", size: 6, payload: description([3, 2], [2, 2]))
        peer.call(.alloc, flags: 2, type: 2, name: "plain", size: 6)
        peer.call(.rename, flags: 1, name: "new", payload: Array("old".utf8))
        #expect(told(peer, "old") == expected([3, 2], [2, 2], length: 6))
        peer.call(.rename, flags: 1, name: "plain", payload: Array("old".utf8))
        #expect(told(peer, "old") == expected(nil, [], length: 6, flags: 0))
        peer.call(.dispose, name: "old")
        #expect(daemon.settledSize == 0)
    }

    @Test("a description is charged, and one that says nothing is not there")
    func charges() {
        func used(_ payload: [UInt8]?) -> UInt64 {
            let daemon = TestDaemon()
            daemon.greeted().call(
                .alloc, flags: payload == nil ? 2 : 34, type: 2, name: "c", size: 64,
                payload: payload ?? [])
            return daemon.settledSize
        }
        let plain = used(nil)
        #expect(used(description(nil)) == plain)
        #expect(used(description([64])) >= plain + 16)
        #expect(used(description([64], [UInt8](repeating: 0, count: 256))) >= plain + 272)
    }

    @Test("without memory for a description there is no allocation either")
    func limits() {
        let daemon = TestDaemon { $0.memorySizeMax = 300 }
        let peer = daemon.greeted()
        let metadata = [UInt8](repeating: 0, count: 256)
        let refused = peer.call(
            .alloc, flags: 34, type: 2, name: "c", size: 64, payload: description(nil, metadata))
        #expect(refused.status == .memoryLimit)
        #expect(daemon.registry.budget.allocationCount == 0)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "c", size: 64).status == .ok)
        #expect(peer.call(.dispose, name: "c").status == .ok)
        #expect(daemon.settledSize == 0)
    }

    @Test("an anonymous one is described by its handle, and tells its owner")
    func anonymous() {
        let daemon = TestDaemon()
        let peer = TestPeer(daemon.loop, owner: 1234)
        peer.feed(frame(.hello))
        peer.output = []
        let handle = peer.call(
            .alloc, flags: 32, type: 12, size: 4, payload: description([2], [5])
        ).header.handle
        let payload = peer.call(.stat, handle: handle).payload
        #expect(Array(payload[56..<64]) == numbers(1234))
        #expect(Array(payload[64...]) == Array(expected([2], [5], length: 2).dropFirst(32)))
        peer.call(.rename, handle: handle, payload: Array("named".utf8))
        #expect(told(peer, "named") == expected([2], [5], length: 2))
    }
}
