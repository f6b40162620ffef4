// The hash by which names are found. Knows nothing of tables.

/// SipHash-1-3 under a key that is drawn when this is made and never told.
///
/// A client does not know the key, and so can't choose names that collide: the output can't be told
/// from random numbers, even if some of it is known. Clients know some of it, since a listing shows
/// it: names come in the order of their shards, and a cursor is a shard's number. Hashes that are
/// faster by a multiplication and a fold, or universal ones, promise nothing once their output is
/// known.
///
/// Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012). One round a word and
/// three at the end suffice for tables, by its authors, and Swift's own hash does the same. Written
/// out here it takes a third of the instructions, for it needs no buffer.
struct NameHash: Sendable {
    private let first: (UInt64, UInt64)
    private let second: (UInt64, UInt64)

    /// Draws a key from the system's random numbers.
    init() {
        var random = SystemRandomNumberGenerator()
        self.init(key: (random.next(), random.next()))
    }

    /// For the published vectors.
    init(key: (UInt64, UInt64)) {
        first = (key.0 ^ 0x736f_6d65_7073_6575, key.1 ^ 0x646f_7261_6e64_6f6d)
        second = (key.0 ^ 0x6c79_6765_6e65_7261, key.1 ^ 0x7465_6462_7974_6573)
    }

    /// The hash of any bytes.
    ///
    /// Cost: about 100 instructions for 10 bytes, 2 more a byte beyond.
    @inline(__always)
    func hash(of name: UnsafeRawBufferPointer) -> UInt64 {
        var state = State(v0: first.0, v1: first.1, v2: second.0, v3: second.1)
        let count = name.count
        var last = UInt64(truncatingIfNeeded: count) << 56
        if let start = name.baseAddress {
            var at = 0
            while count &- at >= 8 {
                state.mix(NameHash.word(start + at))
                at &+= 8
            }
            last |= NameHash.rest(start + at, count &- at, follows: at > 0)
        }
        state.mix(last)
        state.v2 ^= 0xFF
        state.round()
        state.round()
        state.round()
        return state.v0 ^ state.v1 ^ state.v2 ^ state.v3
    }

    /// The last 0 to 7 bytes, the first of them lowest; what comes before may be read if it is the
    /// name's.
    @inline(__always)
    private static func rest(_ start: UnsafeRawPointer, _ count: Int, follows: Bool) -> UInt64 {
        if count == 0 { return 0 }
        if follows {
            return word(start + (count &- 8)) &>> UInt64(truncatingIfNeeded: 64 &- 8 &* count)
        }
        var result: UInt64 = 0
        for index in 0..<count {
            let byte = start.load(fromByteOffset: index, as: UInt8.self)
            result |= UInt64(byte) &<< UInt64(8 &* index)
        }
        return result
    }

    @inline(__always)
    private static func word(_ source: UnsafeRawPointer) -> UInt64 {
        UInt64(littleEndian: source.loadUnaligned(as: UInt64.self))
    }

    private struct State {
        var v0: UInt64
        var v1: UInt64
        var v2: UInt64
        var v3: UInt64

        @inline(__always)
        mutating func mix(_ word: UInt64) {
            v3 ^= word
            round()
            v0 ^= word
        }

        @inline(__always)
        mutating func round() {
            v0 &+= v1
            v1 = State.rotated(v1, 13) ^ v0
            v0 = State.rotated(v0, 32)
            v2 &+= v3
            v3 = State.rotated(v3, 16) ^ v2
            v0 &+= v3
            v3 = State.rotated(v3, 21) ^ v0
            v2 &+= v1
            v1 = State.rotated(v1, 17) ^ v2
            v2 = State.rotated(v2, 32)
        }

        @inline(__always)
        private static func rotated(_ value: UInt64, _ by: UInt64) -> UInt64 {
            value &<< by | value &>> (64 &- by)
        }
    }
}
