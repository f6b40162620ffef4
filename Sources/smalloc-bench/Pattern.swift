import Glibc

/// What allocations are filled with: bytes that tell which allocation they belong to and, nearly,
/// where in it they stand.
///
/// One block of pseudo-random bytes repeats, its length a prime so that no page looks like its
/// neighbours; each content begins at another place of the block. The block and the buffer that is
/// compared with it stay in a processor's second-level cache, so checking every byte of a large
/// reply costs little.
final class Pattern {
    /// Where the bytes of an allocation come from.
    struct Content {
        /// The content's number, or -1 for zeros.
        let number: Int
        /// In bytes.
        let size: Int

        static func zeros(_ size: Int) -> Content { Content(number: -1, size: size) }
    }

    /// The largest prime below 256 KiB.
    static let period = 262_139

    private let block: UnsafeMutableRawPointer
    private let zeros: UnsafeMutableRawPointer

    init() {
        block = .allocate(byteCount: Self.period, alignment: 4096)
        zeros = .allocate(byteCount: Self.period, alignment: 4096)
        zeros.initializeMemory(as: UInt8.self, repeating: 0, count: Self.period)
        var random = SplitMix64(seed: 0x5eed)
        for offset in 0..<Self.period {
            block.storeBytes(
                of: UInt8(truncatingIfNeeded: random.next() >> 56), toByteOffset: offset,
                as: UInt8.self)
        }
    }

    deinit {
        block.deallocate()
        zeros.deallocate()
    }

    /// The longest stretch of `content` that lies in one piece from `offset` on.
    ///
    /// The memory lives as long as the pattern.
    func piece(of content: Content, at offset: Int) -> UnsafeMutableRawBufferPointer {
        let left = content.size - offset
        guard content.number >= 0 else {
            return .init(start: zeros, count: min(left, Self.period))
        }
        let start = (content.number * 4099 + offset) % Self.period
        return .init(start: block + start, count: min(left, Self.period - start))
    }
}
