// Nobody ever sees what another wrote: tests of wiping through every way to write and to free.

import SmallocWire
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Secrecy of freed memory", .timed)
struct SecrecyTests {
    /// A way to put bytes into a whole allocation.
    enum Way: CaseIterable, Sendable {
        case write, largeWrite, fill, largeFill, copy, largeCopy, vectored, largeVectored, text

        /// Soils `size` bytes of the allocation with `handle` and of that name.
        func soil(_ peer: TestPeer, handle: UInt32, name: String, size: Int, sourceHandle: UInt32) {
            let total = UInt64(size)
            switch self {
            case .write:
                for offset in stride(from: 0, to: size, by: 60_000) {
                    let count = min(60_000, size - offset)
                    peer.call(
                        .write, handle: handle, offset: UInt64(offset), size: UInt64(count),
                        payload: [UInt8](repeating: 0xA1, count: count))
                }
            case .largeWrite:
                peer.call(
                    .write, handle: handle, size: total,
                    payload: [UInt8](repeating: 0xA2, count: size))
            case .fill:
                for offset in stride(from: 0, to: size, by: 500_000) {
                    peer.call(
                        .fill, handle: handle, offset: UInt64(offset),
                        size: UInt64(min(500_000, size - offset)), payload: [0xA3])
                }
            case .largeFill:
                peer.call(.fill, handle: handle, size: total, payload: [0xA4])
            case .copy, .largeCopy:
                let step = self == .copy ? 500_000 : size
                for offset in stride(from: 0, to: size, by: step) {
                    peer.call(
                        .copy, handle: sourceHandle, size: UInt64(min(step, size - offset)),
                        payload: copyDest(UInt64(offset), handle: handle))
                }
            case .vectored, .largeVectored:
                // The last byte first, so that the end is not that of the last range.
                let step = self == .vectored ? 30_000 : size
                for offset in stride(from: 0, to: size, by: step) {
                    let count = UInt64(min(step, size - offset))
                    peer.call(
                        .write, flags: 1, handle: handle, size: 2,
                        payload: numbers(UInt64(offset) + count - 1, 1, UInt64(offset), count - 1)
                            + [UInt8](repeating: 0xA5, count: Int(count)))
                }
            case .text:
                let other = TestPeer(peer.loop)
                _ = other.line("fill \(name) 0 \(size) hex:a6")
            }
        }
    }

    @Test("fresh memory is zeros whatever was in it, however it got there", arguments: Way.allCases)
    func ways(_ way: Way) {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let peer = daemon.greeted()
        let sizes = [100, 60_000, 65_536, 200_000, 262_144, 300_000, 1_500_000]
        let source = peer.call(.alloc, type: 2, size: 1_500_000).header.handle
        peer.call(.fill, handle: source, size: 1_500_000, payload: [0xA7])
        for size in sizes {
            for later in [size, size - 1, size - 64, size + 1] {
                let handle = peer.call(.alloc, type: 2, name: "old", size: UInt64(size))
                    .header.handle
                way.soil(peer, handle: handle, name: "old", size: size, sourceHandle: source)
                let last = peer.call(
                    .read, handle: handle, offset: UInt64(size - 1), size: 1)
                #expect(last.payload.first.map { $0 >= 0xA1 } == true, "\(way) wrote nothing")
                #expect(peer.call(.dispose, handle: handle).outcome == "ok")
                _ = eventually { daemon.registry.mappings.pendingSize == 0 }
                let fresh = peer.call(.alloc, type: 2, name: "new", size: UInt64(later))
                let seen = peer.call(.read, name: "new", size: UInt64(later))
                #expect(seen.payload.count == later)
                #expect(seen.payload.allSatisfy { $0 == 0 }, "\(way) \(size) \(later)")
                peer.call(.dispose, handle: fresh.header.handle)
            }
        }
    }

    @Test("what was cut off by truncate is wiped too")
    func truncated() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let peer = daemon.greeted()
        for size in [1000, 100_000, 600_000] {
            let handle = peer.call(.alloc, type: 2, size: UInt64(size)).header.handle
            peer.call(.fill, handle: handle, size: UInt64(size), payload: [0xFF])
            #expect(peer.call(.truncate, handle: handle, size: 1).outcome == "ok")
            #expect(
                peer.call(.read, handle: handle, offset: 1, size: 1).outcome
                    == "outOfRange RangeError: start + count > length")
            peer.call(.close, handle: handle)
            _ = eventually { daemon.registry.mappings.pendingSize == 0 }
            let fresh = peer.call(.alloc, type: 2, size: UInt64(size)).header.handle
            let seen = peer.call(.read, handle: fresh, size: UInt64(size))
            #expect(seen.payload.count == size && seen.payload.allSatisfy { $0 == 0 })
            peer.call(.close, handle: fresh)
        }
    }

    @Test("a large write that was cut short is wiped as far as it came")
    func cutShort() {
        let daemon = TestDaemon(warmSizeMax: 16 << 20)
        let writer = daemon.greeted()
        let size = 300_000
        writer.call(.alloc, flags: 2, type: 2, name: "a", size: UInt64(size))
        writer.feed(
            Array(
                frame(
                    .write, name: "a", size: UInt64(size),
                    payload: [UInt8](repeating: 0xEE, count: size)
                ).dropLast(1000)))
        let reader = daemon.greeted()
        #expect(reader.call(.read, name: "a", offset: 200_000, size: 1).payload == [0xEE])
        #expect(reader.call(.dispose, name: "a").outcome == "ok")
        writer.session.end(daemon.loop)
        writer.isClosed = true
        _ = eventually { daemon.registry.mappings.pendingSize == 0 }
        #expect(daemon.registry.mappings.warmSize > 0)
        reader.call(.alloc, flags: 2, type: 2, name: "b", size: UInt64(size))
        let seen = reader.call(.read, name: "b", size: UInt64(size))
        #expect(seen.payload.count == size && seen.payload.allSatisfy { $0 == 0 })
    }

    @Test("thousands of allocations of random sizes over each other never show an old byte")
    func random() {
        var random = SplitMix(for: "secrecy")
        let daemon = TestDaemon(warmSizeMax: 4 << 20)
        let peer = daemon.greeted()
        var live: [(handle: UInt32, size: UInt64)] = []
        for _ in 0..<Scale.count(1500) {
            let choices: [UInt64] = [40, 1000, 65_535, 65_536, 131_072, 262_144, 270_000]
            let size = choices[Int(random.next() % 7)] + random.next() % 3
            let handle = peer.call(.alloc, type: 2, size: size).header.handle
            let seen = peer.call(.read, handle: handle, size: size).payload
            #expect(seen.count == Int(size))
            let isZero = seen.withUnsafeBytes {
                firstNonZero(UnsafeMutableRawBufferPointer(mutating: $0)) == nil
            }
            #expect(isZero)
            // Somewhere inside, so that the wiping has to know how far it got.
            let offset = random.next() % size
            let count = min(size - offset, 1 + random.next() % 50_000)
            peer.call(.fill, handle: handle, offset: offset, size: count, payload: [0x99])
            live.append((handle, size))
            if live.count > 12 {
                let gone = live.remove(at: Int(random.next() % UInt64(live.count)))
                #expect(peer.call(.close, handle: gone.handle).outcome == "ok")
            }
        }
        for entry in live { peer.call(.close, handle: entry.handle) }
        #expect(daemon.settledSize == 0)
    }
}
