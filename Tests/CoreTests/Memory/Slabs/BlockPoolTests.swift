import Dispatch
import Glibc
import Testing
import TestSupport

@testable import SmallocCore

@Suite("Block pool", .timed)
struct BlockPoolTests {
    /// A block that is in use, filled with one byte.
    private struct Held: @unchecked Sendable {
        let block: UnsafeMutableRawPointer
        let size: Int
        let byte: UInt8

        var bytes: UnsafeMutableRawBufferPointer {
            UnsafeMutableRawBufferPointer(start: block, count: size)
        }

        /// Takes a block, which must be zeros, and fills it.
        init?(_ pool: BlockPool, _ size: Int, _ byte: UInt8) {
            guard let block = pool.take(size) else { return nil }
            self.block = block
            self.size = size
            self.byte = byte
            if let index = firstNonZero(bytes) {
                Issue.record("a block of \(size) bytes has an old one at \(index)")
            }
            memset(block, Int32(byte), size)
        }

        /// Gives the block back, in which nobody may have written meanwhile.
        func give(_ pool: BlockPool) {
            if !bytes.allSatisfy({ $0 == byte }) { Issue.record("\(size) bytes were overwritten") }
            pool.give(block, size)
        }
    }

    @Test("a block takes its size in units of 8 bytes, and says so", arguments: [false, true])
    func capacity(_ isPlain: Bool) throws {
        let pool = BlockPool(isPlain: isPlain)
        for size in [1, 7, 8, 9, 104, 1023, 1024, 1025, 70_000] {
            #expect(pool.isPooled(size) == (size <= 1024 && !isPlain))
            let block = try #require(pool.take(size))
            #expect(Int(bitPattern: block) % 8 == 0)
            if pool.isPooled(size) {
                #expect(BlockPool.capacity(for: size) == (size + 7) / 8 * 8)
                #expect(BlockPool.capacity(of: block) == (size + 7) / 8 * 8)
            }
            pool.give(block, size)
        }
    }

    @Test("blocks are zeros, apart, and whole until given back, whatever else comes and goes")
    func model() throws {
        var random = SplitMix(for: "block pool")
        let pool = BlockPool(isPlain: false)
        var held: [Held] = []
        for step in 0..<Scale.count(60_000) {
            // Now many, now few, so that slabs are cut, fill up and empty.
            let wanted = step / 10_000 % 2 == 0 ? 3000 : 30
            if held.count < wanted {
                let largest = random.next() % 4 == 0 ? UInt64(1200) : 120
                let size = 1 + Int(random.next() % largest)
                held.append(try #require(Held(pool, size, UInt8(1 + random.next() % 255))))
            } else {
                let index = Int(random.next() % UInt64(held.count))
                held.swapAt(index, held.count - 1)
                held.removeLast().give(pool)
            }
            if step % 5000 == 0 { pool.checkInvariants() }
            if step % 1000 == 999 { pool.sweep() }
        }
        for one in held { one.give(pool) }
    }

    @Test("threads that take, pass on and give never share a block, while another one sweeps")
    func threads() {
        let pool = BlockPool(isPlain: false)
        let seed = SplitMix(for: "block pool threads").seed
        DispatchQueue.concurrentPerform(iterations: 4) { thread in
            if thread == 3 {
                for _ in 0..<Scale.count(300) {
                    pool.sweep()
                    usleep(200)
                }
                return
            }
            var random = SplitMix(seed: seed &+ UInt64(thread))
            var held: [Held] = []
            for step in 0..<Scale.count(20_000) {
                if held.count < (step / 4000 % 2 == 0 ? 1500 : 10) {
                    let size = 8 * (12 + Int(random.next() % 3))
                    guard let one = Held(pool, size, UInt8(thread + 1)) else {
                        Issue.record("no memory")
                        return
                    }
                    held.append(one)
                } else {
                    held.remove(at: Int(random.next() % UInt64(held.count))).give(pool)
                }
            }
            for one in held { one.give(pool) }
        }
    }

    @Test("a sweep gives back what is free and leaves what is in use")
    func swept() throws {
        let pool = BlockPool(isPlain: false)
        var held = try (0..<200_000).map { try #require(Held(pool, 104, UInt8($0 % 251 + 1))) }
        #expect(pool.slabs.mappedSize >= 200_000 * 104)
        // One of each thousand stays: some slabs are free as a whole then, others are not.
        let kept = held.enumerated().filter { $0.offset % 1000 == 0 }.map(\.element)
        for (index, one) in held.enumerated() where index % 1000 != 0 { one.give(pool) }
        held = []
        let before = pool.slabs.usedCount
        pool.sweep()
        #expect(pool.slabs.usedCount > before / 3 && pool.slabs.usedCount < before / 10 * 9)
        // What was swept and what was not is handed out again, as zeros.
        let again = try (0..<200_000).map { try #require(Held(pool, 104, UInt8($0 % 251 + 1))) }
        for one in again { one.give(pool) }
        for one in kept { one.give(pool) }
        pool.sweep()
        // The slab that is being cut stays, and the region that it is in.
        #expect(pool.slabs.mappedSize <= 2 << 20)
        #expect(pool.slabs.usedCount == 1)
        let last = try #require(Held(pool, 104, 1))
        last.give(pool)
    }

    @Test("who wants blocks in the middle of a sweep has free ones, and no fresh memory")
    func lent() throws {
        let pool = BlockPool(isPlain: false)
        let held = try (0..<200_000).map { _ in try #require(Held(pool, 104, 1)) }
        for (index, one) in held.enumerated() where index % 1000 != 0 { one.give(pool) }
        let before = pool.slabs.usedCount
        var most = 0
        var taken: [Held] = []
        pool.sweep {
            for _ in 0..<20 where taken.count < 20_000 {
                if let one = Held(pool, 104, 2) { taken.append(one) }
            }
            most = max(most, pool.slabs.usedCount)
        }
        #expect(taken.count > 10_000)
        #expect(most <= before + 1, "\(most) slabs, and \(before) before")
        #expect(pool.slabs.usedCount < before / 10 * 9)
        for one in taken { one.give(pool) }
        for (index, one) in held.enumerated() where index % 1000 == 0 { one.give(pool) }
        pool.sweep()
        #expect(pool.slabs.usedCount == 1)
    }

    @Test("sizes that are no longer asked for leave their memory to others")
    func passedOn() throws {
        let pool = BlockPool(isPlain: false)
        for size in stride(from: 8, through: 1024, by: 8) {
            let held = try (0..<8 << 20 / size / 2).map { _ in
                try #require(Held(pool, size, 0xFF))
            }
            for one in held { one.give(pool) }
            pool.sweep()
        }
        #expect(pool.slabs.mappedSize <= 16 << 20)
    }

    @Test("tables of whole slabs are zeros of their own, and pass through the hands of blocks")
    func tables() throws {
        var random = SplitMix(for: "block pool tables")
        let pool = BlockPool(isPlain: false)
        var tables: [(start: UnsafeMutableRawPointer, size: Int, byte: UInt8)] = []
        var held: [Held] = []
        for step in 0..<Scale.count(3000) {
            let size = BlockPool.tableUnit * Int(1 + random.next() % 5) - (step % 3 == 0 ? 8 : 0)
            if tables.count < 40, random.next() % 2 == 0 {
                let start = try #require(pool.takeTable(size))
                let bytes = UnsafeMutableRawBufferPointer(start: start, count: size)
                #expect(firstNonZero(bytes) == nil)
                memset(start, Int32(step % 255 + 1), size)
                tables.append((start, size, UInt8(step % 255 + 1)))
            } else if let gone = tables.popLast() {
                let bytes = UnsafeRawBufferPointer(start: gone.start, count: gone.size)
                #expect(bytes.allSatisfy { $0 == gone.byte })
                pool.giveTable(gone.start, gone.size)
                tables.shuffle(using: &random)
            }
            if held.count < (step / 500 % 2 == 0 ? 2000 : 0) {
                for _ in 0..<50 { held.append(try #require(Held(pool, 1000, 7))) }
            } else {
                for one in held.suffix(100) { one.give(pool) }
                held.removeLast(min(100, held.count))
                pool.sweep()
            }
        }
        for one in held { one.give(pool) }
        for table in tables { pool.giveTable(table.start, table.size) }
    }
}
