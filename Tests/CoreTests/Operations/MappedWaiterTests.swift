// What mapped clients are told of requests that wait: the flag in the state word, which a client that
// notifies looks at, and the count of truncates, by which one that is about to sleep does not.

import Glibc
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("What mapped clients are told of waits", .timed)
struct MappedWaiterTests {
    private let daemon = TestDaemon()
    private let peer: TestPeer
    private let other: TestPeer

    init() {
        peer = daemon.greeted(mapping: true)
        other = daemon.greeted(mapping: true)
    }

    /// The state word of an allocation that is mapped, as a client sees it.
    private func map(_ name: String, _ peer: TestPeer) throws -> UnsafePointer<UInt32> {
        let reply = peer.call(.map, flags: 1, name: name)
        try #require(reply.status == .ok)
        for descriptor in peer.takeDescriptors() { close(descriptor) }
        let slot = Int(reply.number(0) & 0xFFFF_FFFF)
        let state = try #require(daemon.registry.mappings.shares?.state)
        let start = mmap(nil, state.size, PROT_READ, MAP_SHARED, state.descriptor, 0)
        return UnsafePointer(
            try #require(start).advanced(by: slot * StateMemory.slotSize)
                .assumingMemoryBound(to: UInt32.self))
    }

    private func wait(_ name: String, value: UInt8 = 0, milliseconds: UInt64 = .max) {
        other.feed(
            frame(
                .wait, cookie: 7, name: name, size: milliseconds, payload: [value, 0, 0, 0]))
    }

    private func hasWaiters(_ word: UnsafePointer<UInt32>) -> Bool { word.pointee & 4 != 0 }

    @Test("the flag is raised while a request waits, however the wait ends", arguments: 0..<6)
    func flag(way: Int) throws {
        peer.call(.alloc, flags: 6, type: 6, name: "a", size: 64)
        let word = try map("a", peer)
        #expect(word.pointee & 7 == 1)
        wait("a", value: 1)
        wait("a", milliseconds: 0)
        #expect(!hasWaiters(word))
        wait("a", milliseconds: 1 << 20)
        wait("a", milliseconds: 1 << 20)
        #expect(hasWaiters(word))
        switch way {
        case 0:
            #expect(peer.call(.notify, name: "a", size: 1).header.size == 1)
            #expect(hasWaiters(word))
            #expect(peer.call(.notify, name: "a", size: 9).header.size == 1)
        case 1: other.call(.cancel, payload: [7, 0, 0, 0, 0, 0, 0, 0])
        case 2: other.session.end(daemon.loop)
        case 3:
            #expect(peer.call(.truncate, name: "a", size: 60).outcome == "ok")
            #expect(word.pointee & 1 == 1)
        case 4: peer.call(.dispose, name: "a")
        default:
            #expect(peer.call(.freeze, name: "a").outcome == "ok")
            #expect(hasWaiters(word) && word.pointee & 2 != 0)
            #expect(peer.call(.notify, name: "a", size: 9).header.size == 2)
        }
        daemon.tellWaits()
        #expect(!hasWaiters(word))
        #expect(word.pointee >> 8 == 1)
    }

    @Test(
        "what begins to be mapped while requests wait has it raised",
        arguments: [8, 70_000, 5 << 20])
    func promotion(size: Int) throws {
        peer.call(.alloc, flags: 2, type: 6, name: "a", size: UInt64(size))
        wait("a")
        let word = try map("a", peer)
        #expect(hasWaiters(word))
        #expect(peer.call(.notify, name: "a", size: 1).header.size == 1)
        #expect(!hasWaiters(word))
    }

    @Test("each truncate changes the state word, and never the generation")
    func truncates() throws {
        peer.call(.alloc, flags: 6, type: 6, name: "a", size: 4096)
        let word = try map("a", peer)
        for round in 1...70 {
            let before = word.pointee
            let size = UInt64(4096 - 4 * round)
            #expect(peer.call(.truncate, name: "a", size: size).outcome == "ok")
            #expect(word.pointee != before && word.pointee >> 8 == 1 && word.pointee & 7 == 1)
        }
    }
}
