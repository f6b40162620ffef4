// Copies and fills that are answered before they are done: nobody finds them undone.

import Foundation
import SmallocSystem
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

private let size: UInt64 = 512 << 10

@Suite("Answered before it is done")
struct MoveTests {
    /// A connection with handle 1 to "a", full of 7s, and 2 to "b".
    private static func peer(_ daemon: TestDaemon) -> TestPeer {
        let peer = daemon.greeted()
        peer.call(.alloc, type: 2, name: "a", size: size)
        peer.call(.alloc, type: 2, name: "b", size: size)
        peer.call(.fill, handle: 1, size: size, payload: [7])
        return peer
    }

    private static let copy = frame(
        .copy, handle: 1, size: size, payload: copyDest(0, handle: 2))

    private static func isMoved(_ peer: TestPeer, _ value: UInt8 = 7) -> Bool {
        guard let allocation = peer.session.holdings.handles[2] else { return false }
        let bytes = UnsafeRawBufferPointer(start: allocation.data, count: Int(size))
        return bytes.allSatisfy { $0 == value }
    }

    /// Whether an allocation is locked by somebody.
    private static func isLocked(_ peer: TestPeer, _ handle: UInt32) throws -> Bool {
        let allocation = try #require(peer.session.holdings.handles[handle])
        guard allocation.lock.tryLock() else { return true }
        allocation.lock.unlock()
        return false
    }

    /// Records what is locked, and unlocks it, so that nobody waits for ever.
    private static func expectUnlocked(_ peer: TestPeer) throws {
        for handle in [1, 2] as [UInt32] where try isLocked(peer, handle) {
            Issue.record("\(handle) is locked")
            peer.session.holdings.handles[handle]?.lock.unlock()
        }
    }

    enum Asked: String, CaseIterable {
        case copy
        case fill
        case copyByName
        case copyInText
        case fillInText

        var request: [UInt8] {
            switch self {
            case .copy: MoveTests.copy
            case .fill: frame(.fill, handle: 2, size: size, payload: [7, 7])
            case .copyByName:
                frame(.copy, name: "a", size: size, payload: copyDest(0, name: "b"))
            case .copyInText: Array("copy a 0 b 0 \(size)\n".utf8)
            case .fillInText: Array("fill b 0 \(size) 7\n".utf8)
            }
        }

        var isText: Bool { self == .copyInText || self == .fillInText }
    }

    @Test(
        "the answer is there before the bytes, which are locked until they are",
        arguments: Asked.allCases)
    func answeredFirst(_ asked: Asked) throws {
        let daemon = TestDaemon()
        let owner = MoveTests.peer(daemon)
        let peer = asked.isText ? daemon.connect() : owner
        peer.finishesMoves = false
        peer.feed(asked.request)
        #expect(peer.pause == .move && peer.session.hasMove)
        let answer = peer.output
        #expect(asked.isText ? answer == Array("OK\n".utf8) : replies(in: answer)?.count == 1)
        #expect(!MoveTests.isMoved(owner))
        #expect(try MoveTests.isLocked(owner, 2))
        #expect(try MoveTests.isLocked(owner, 1) == asked.rawValue.hasPrefix("copy"))
        // A pause like any other: nothing behind it is served before.
        let more = asked.isText ? Array("ping\n".utf8) : frame(.ping)
        peer.feed(more)
        #expect(peer.output == answer)
        peer.session.finishMove(daemon.loop)
        #expect(peer.pause == .none && !peer.session.hasMove)
        #expect(MoveTests.isMoved(owner))
        try MoveTests.expectUnlocked(owner)
        peer.run()
        #expect(peer.output.count > answer.count)
        // Every reference was given back.
        for handle in [1, 2] as [UInt32] {
            #expect(owner.session.holdings.handles[handle]?.referenceCount == 2)
        }
        for handle in [1, 2] as [UInt32] {
            owner.finishesMoves = true
            #expect(owner.call(.dispose, handle: handle).status == .ok)
        }
        #expect(daemon.settledSize == 0)
    }

    @Test("one with requests behind it is done at once, so that their answers leave together")
    func batch() {
        let daemon = TestDaemon()
        let peer = MoveTests.peer(daemon)
        peer.finishesMoves = false
        peer.feed(MoveTests.copy + frame(.ping))
        #expect(peer.pause == .none && replies(in: peer.output)?.count == 2)
        #expect(MoveTests.isMoved(peer))
        peer.output = []
        let text = daemon.connect()
        text.finishesMoves = false
        text.feed("fill b 0 \(size) 9\nping\n")
        #expect(text.pause == .none && text.output.count(where: { $0 == 0x0A }) == 2)
        #expect(MoveTests.isMoved(peer, 9))
    }

    @Test("small ones are done before their answer, as it costs nothing")
    func small() {
        let daemon = TestDaemon()
        let peer = MoveTests.peer(daemon)
        peer.finishesMoves = false
        let size = UInt64(Move.sizeMin)
        for (size, pause) in [(size - 1, Session.Pause.none), (size, .move)] {
            peer.feed(frame(.copy, handle: 1, size: size, payload: copyDest(0, handle: 2)))
            #expect(peer.pause == pause)
            peer.session.finishMove(daemon.loop)
            peer.feed(frame(.fill, handle: 1, size: size, payload: [8]))
            #expect(peer.pause == pause)
            peer.session.finishMove(daemon.loop)
        }
    }

    @Test("onto itself, and overlapping")
    func overlapping() throws {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        let size = 200_000
        peer.call(.alloc, type: 2, name: "a", size: UInt64(size))
        var model = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31 ^ $0 >> 9) }
        let written = peer.call(
            .write, handle: 1, size: UInt64(size), payload: model)
        #expect(written.status == .ok)
        for (from, to) in [(0, 0), (0, 1), (1, 0), (0, 70_000), (70_000, 3)] {
            let count = size - max(from, to)
            let reply = peer.call(
                .copy, handle: 1, offset: UInt64(from), size: UInt64(count),
                payload: copyDest(UInt64(to), handle: 1))
            #expect(reply.status == .ok)
            model.replaceSubrange(to..<to + count, with: Array(model[from..<from + count]))
            #expect(try !MoveTests.isLocked(peer, 1))
            let read = peer.call(.read, handle: 1, size: UInt64(size))
            #expect((read.payload == model) as Bool, "\(from) to \(to)")
        }
        let allocation = try #require(peer.session.holdings.handles[1])
        #expect(allocation.referenceCount == 2)
    }

    @Test("it is done, and nothing stays locked, however the connection ends")
    func ends() throws {
        for isFailing in [false, true] {
            for request in [MoveTests.copy, frame(.fill, handle: 2, size: size, payload: [7])] {
                let daemon = TestDaemon()
                let other = daemon.greeted()
                let peer = MoveTests.peer(daemon)
                #expect(other.call(.open, name: "a").header.handle == 1)
                #expect(other.call(.open, name: "b").header.handle == 2)
                peer.finishesMoves = false
                peer.feed(request)
                #expect(peer.pause == .move)
                if isFailing {
                    peer.session.fail(SmallocError(.outOfMemory, .error, ""), daemon.loop)
                    #expect(peer.pause == .close && peer.session.hasMove)
                    peer.session.finishMove(daemon.loop)
                    #expect(peer.pause == .close)
                }
                peer.session.end(daemon.loop)
                peer.isClosed = true
                #expect(MoveTests.isMoved(other))
                try MoveTests.expectUnlocked(other)
                for handle in [1, 2] as [UInt32] {
                    #expect(other.session.holdings.handles[handle]?.referenceCount == 2)
                }
            }
        }
    }

    @Test("somebody else's read waits for what was answered, and finds it")
    func othersWait() throws {
        let daemon = TestDaemon()
        let peer = MoveTests.peer(daemon)
        let registry = daemon.registry
        for value in 1...UInt8(20) {
            peer.call(.fill, handle: 1, size: size, payload: [value])
            peer.finishesMoves = false
            peer.feed(MoveTests.copy)
            #expect(peer.pause == .move)
            let found = Locked<[UInt8]>([])
            let hasBegun = Locked(false)
            Thread.detachNewThread {
                let reader = TestPeer(LoopContext(registry: registry, index: 0))
                reader.feed(frame(.hello))
                hasBegun.withLock { $0 = true }
                let bytes = reader.call(.read, name: "b", offset: size - 9, size: 9).payload
                found.withLock { $0 = bytes }
            }
            #expect(eventually { hasBegun.withLock { $0 } })
            usleep(1000)
            #expect(found.withLock { $0 } == [])
            peer.session.finishMove(daemon.loop)
            peer.finishesMoves = true
            #expect(
                eventually { found.withLock { $0 } == [UInt8](repeating: value, count: 9) })
            try MoveTests.expectUnlocked(peer)
        }
    }

    @Test("where a large write is under way it is done at once, and does not overtake it")
    func underWay() {
        let daemon = TestDaemon()
        let peer = MoveTests.peer(daemon)
        let writer = daemon.greeted()
        for (request, isDest) in [
            (frame(.fill, handle: 2, size: size, payload: [1]), true), (MoveTests.copy, true),
            (frame(.copy, handle: 2, size: size, payload: copyDest(0, handle: 1)), false),
        ] {
            let write = frame(
                .write, name: "b", size: size, payload: [UInt8](repeating: 9, count: Int(size)))
            writer.feed(Array(write.dropLast(100)))
            peer.finishesMoves = false
            peer.feed(request)
            guard peer.pause == .none else {
                Issue.record("it is left for later")
                return peer.session.finishMove(daemon.loop)
            }
            writer.feed(Array(write.suffix(100)))
            peer.session.finishMove(daemon.loop)
            peer.finishesMoves = true
            let read = peer.call(.read, handle: 2, offset: size - 100, size: 100).payload
            #expect(read == [UInt8](repeating: 9, count: 100), "\(isDest)")
            peer.feed(request)
        }
    }

    @Test("small memory does not tell of what is under way, so it is done at once")
    func heap() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        for name in ["a", "b"] { peer.call(.alloc, type: 2, name: name, size: 60_000) }
        peer.finishesMoves = false
        peer.feed(frame(.fill, handle: 1, size: 60_000, payload: [1]))
        #expect(peer.pause == .none)
        peer.feed(frame(.copy, handle: 1, size: 60_000, payload: copyDest(0, handle: 2)))
        #expect(peer.pause == .none)
        let other = daemon.greeted()
        let read = other.call(.read, name: "b", offset: 59_991, size: 9).payload
        #expect(read == [UInt8](repeating: 1, count: 9))
    }

    @Test("it counts as no handle, and the last line of an input may ask for it")
    func lastLine() throws {
        let daemon = TestDaemon()
        let peer = MoveTests.peer(daemon)
        peer.finishesMoves = false
        peer.feed(MoveTests.copy)
        #expect(peer.pause == .move)
        for handle in [1, 2] as [UInt32] {
            #expect(peer.session.holdings.handles[handle]?.referenceCount == 2)
        }
        peer.session.finishMove(daemon.loop)
        let text = daemon.connect()
        text.feed("fill b 0 \(size) 8")
        text.feedEnd()
        #expect(text.output == Array("OK\n".utf8))
        #expect(MoveTests.isMoved(peer, 8))
        try MoveTests.expectUnlocked(peer)
    }
}
