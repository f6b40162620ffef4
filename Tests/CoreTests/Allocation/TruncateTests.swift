// What truncate cuts off is out of reach, goes back in whole pages, and is accounted for to the byte.

import Foundation
import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Truncate", .timed)
struct TruncateTests {
    private static let page = UInt64(sysconf(Int32(_SC_PAGESIZE)))

    /// What a mapping of that size is charged, and what is kept of one that was cut to it.
    private static func capacity(_ size: UInt64) -> UInt64 {
        max((size + page - 1) / page * page, page)
    }

    @Test(
        "a large allocation gives its whole pages back, and keeps what is before them",
        arguments: [0, 1, 4096, 4097, 65_536, 1_000_000, (4 << 20) - 1, 5_000_000])
    func pages(_ size: UInt64) {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let peer = daemon.greeted()
        let whole: UInt64 = 5_000_000
        let empty = daemon.settledSize
        let handle = peer.call(.alloc, type: 2, name: "a", size: whole).header.handle
        peer.call(.fill, handle: handle, size: whole, payload: [1, 2, 3, 4, 5])
        let before = daemon.settledSize
        #expect(peer.call(.truncate, handle: handle, size: size).status == .ok)
        let given = TruncateTests.capacity(whole) - TruncateTests.capacity(size)
        #expect(daemon.settledSize == before - given)
        let read = peer.call(.read, handle: handle, size: size).payload
        #expect(read.count == Int(size))
        #expect(read.indices.allSatisfy { read[$0] == UInt8($0 % 5 + 1) })
        #expect(peer.call(.read, handle: handle, offset: size, size: 1).status == .outOfRange)
        #expect(peer.call(.read, handle: handle, size: size + 1).status == .outOfRange)
        // To the same size again, then to nothing.
        #expect(peer.call(.truncate, handle: handle, size: size).status == .ok)
        #expect(daemon.settledSize == before - given)
        #expect(peer.call(.truncate, handle: handle, size: 0).status == .ok)
        #expect(
            daemon.settledSize
                == before - TruncateTests.capacity(whole) + TruncateTests.capacity(0))
        #expect(peer.call(.dispose, handle: handle).status == .ok)
        #expect(daemon.settledSize == empty)
    }

    @Test("what fits into the memory limit after a truncate can be allocated")
    func reused() {
        let daemon = TestDaemon(warmSizeMax: 4 << 20) { $0.memorySizeMax = 8 << 20 }
        let peer = daemon.greeted()
        for round in 0..<10 {
            let handle = peer.call(.alloc, type: 2, name: "a\(round)", size: 7 << 20).header.handle
            #expect(handle != 0)
            peer.call(.fill, handle: handle, size: 7 << 20, payload: [0xFF])
            #expect(peer.call(.truncate, handle: handle, size: 70_000).status == .ok)
            // Waits for what is on its way back.
            let other = peer.call(.alloc, flags: 2, type: 2, name: "b", size: 7 << 20)
            #expect(other.status == .ok, "\(round)")
            let seen = peer.call(.read, name: "b", size: 7 << 20).payload
            #expect(seen.count == 7 << 20 && seen.allSatisfy { $0 == 0 })
            #expect(peer.call(.dispose, name: "b").status == .ok)
            #expect(peer.call(.dispose, handle: handle).status == .ok)
        }
        #expect(daemon.registry.budget.usedSize <= 8 << 20)
    }

    @Test(
        "what is disposed of gives its memory back, whoever has a handle to it",
        arguments: [false, true])
    func disposed(_ byHandle: Bool) {
        let daemon = TestDaemon(warmSizeMax: 16 << 20) { $0.memorySizeMax = 8 << 20 }
        let idle = daemon.greeted()
        let peer = daemon.greeted()
        let empty = daemon.settledSize
        for round in 1...5 {
            let handle = peer.call(.alloc, type: 2, name: "a", size: 6 << 20).header.handle
            #expect(handle != 0, "round \(round)")
            peer.call(.fill, handle: handle, size: 6 << 20, payload: [0xFF])
            let other = idle.call(.open, name: "a").header.handle
            if byHandle {
                #expect(peer.call(.dispose, handle: handle).status == .ok)
            } else {
                #expect(peer.call(.dispose, name: "a").status == .ok)
                #expect(peer.call(.read, handle: handle, size: 1).status == .noData)
                #expect(peer.call(.close, handle: handle).status == .ok)
            }
            #expect(idle.call(.read, handle: other, size: 0).status == .noData)
            #expect(idle.call(.stat, handle: other).status == .noData)
            #expect(daemon.settledSize < empty + UInt64(round) * 5000)
        }
        idle.session.end(idle.loop)
        idle.isClosed = true
        #expect(daemon.settledSize == empty)
    }

    /// Something that is in the middle of an allocation when it is truncated.
    enum Way: CaseIterable, Sendable {
        case read, ranges, write, fill, copyFrom, copyOnto

        func request(_ size: UInt64) -> [UInt8] {
            switch self {
            case .read: frame(.read, handle: 1, size: size)
            case .ranges:
                frame(
                    .read, flags: 1, handle: 1, size: 2,
                    payload: numbers(size / 2, size / 2, 0, size / 2))
            case .write:
                frame(
                    .write, handle: 1, size: size,
                    payload: [UInt8](repeating: 7, count: Int(size)))
            case .fill: frame(.fill, handle: 1, size: size, payload: [7])
            case .copyFrom:
                frame(.copy, handle: 1, size: size, payload: copyDest(0, name: "other"))
            case .copyOnto:
                frame(.copy, name: "other", size: size, payload: copyDest(0, handle: 1))
            }
        }
    }

    @Test(
        "what is in the middle of it ends on the old memory, which stays charged until then",
        arguments: Way.allCases)
    func underWay(_ way: Way) {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let peer = daemon.greeted()
        let size: UInt64 = 3 << 20
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "other", size: size).status == .ok)
        #expect(peer.call(.alloc, flags: 2, type: 2, name: "a", size: size).status == .ok)
        peer.call(.fill, name: "a", size: size, payload: [9])
        for isLost in [false, true] {
            let mover = daemon.greeted()
            #expect(mover.call(.open, name: "a").header.handle == 1)
            let before = daemon.settledSize
            let bytes = way.request(isLost ? size / 2 : size)
            mover.moves = false
            mover.feed(Array(bytes.dropLast(way == .write ? 1000 : 0)))
            let cut = isLost ? size / 4 : size / 2
            #expect(peer.call(.truncate, name: "a", size: cut).status == .ok)
            #expect(daemon.settledSize == before, "given back under \(way)")
            // Others go by the new size at once.
            #expect(peer.call(.read, name: "a", offset: cut, size: 1).status == .outOfRange)
            if isLost {
                mover.session.end(daemon.loop)
                mover.isClosed = true
                #expect(daemon.settledSize <= before - cut)
            } else {
                mover.moves = true
                mover.feed(Array(bytes.suffix(way == .write ? 1000 : 0)))
                #expect(mover.pause == .none)
                #expect(daemon.settledSize == before - size / 2)
                #expect(mover.call(.read, handle: 1, offset: cut - 1, size: 1).status == .ok)
                mover.session.end(daemon.loop)
                mover.isClosed = true
            }
        }
        #expect(peer.call(.dispose, name: "a").status == .ok)
        #expect(peer.call(.dispose, name: "other").status == .ok)
        #expect(daemon.settledSize < TruncateTests.page)
    }

    @Test("a small allocation keeps its memory")
    func small() {
        let daemon = TestDaemon()
        let peer = daemon.greeted()
        #expect(peer.call(.alloc, type: 2, name: "a", size: 65_535).status == .ok)
        let before = daemon.settledSize
        #expect(peer.call(.truncate, handle: 1, size: 1).status == .ok)
        #expect(daemon.settledSize == before)
        #expect(peer.call(.read, handle: 1, offset: 1, size: 1).status == .outOfRange)
    }

    @Test("random truncates of random sizes lose no byte, show no old one, and add up")
    func random() {
        var random = SplitMix(for: "truncate")
        let daemon = TestDaemon(warmSizeMax: 4 << 20)
        let peer = daemon.greeted()
        var live: [(handle: UInt32, bytes: [UInt8])] = []
        for _ in 0..<Scale.count(300) {
            let size = Int(random.next() % 3 == 0 ? 65_536 : random.next() % 700_000)
            let handle = peer.call(.alloc, type: 2, size: UInt64(size)).header.handle
            let fresh = peer.call(.read, handle: handle, size: UInt64(size)).payload
            #expect(fresh.count == size && fresh.allSatisfy { $0 == 0 })
            let bytes = random.bytes(size)
            peer.call(.write, handle: handle, size: UInt64(size), payload: bytes)
            live.append((handle, bytes))
            let index = Int(random.next() % UInt64(live.count))
            let count = Int(random.next() % UInt64(live[index].bytes.count + 1))
            live[index].bytes.removeLast(live[index].bytes.count - count)
            #expect(
                peer.call(.truncate, handle: live[index].handle, size: UInt64(count)).status
                    == .ok)
            let entry = live[index]
            #expect(
                peer.call(.read, handle: entry.handle, size: UInt64(count)).payload == entry.bytes)
            if live.count > 6 {
                let gone = live.remove(at: Int(random.next() % 7))
                #expect(peer.call(.close, handle: gone.handle).status == .ok)
            }
        }
        for entry in live { peer.call(.close, handle: entry.handle) }
        #expect(daemon.settledSize == 0)
    }
}
