// The pattern of a fill, and how it gets into memory.

internal import Glibc
internal import SmallocWire

/// 1 to 64 bytes that are repeated.
struct Pattern: Sendable {
    private var bytes: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) =
        (0, 0, 0, 0, 0, 0, 0, 0)
    /// Bytes.
    let size: Int
    /// Bytes of the block that repeats it in private memory, to be copied from.
    ///
    /// What was filled already is no source: another client may change it meanwhile.
    private static let blockSize = 4096

    /// - Parameter source: 1 to 64 bytes.
    init(_ source: UnsafeRawBufferPointer) {
        precondition((1...Limits.fillPatternSizeMax).contains(source.count))
        size = source.count
        withUnsafeMutableBytes(of: &bytes) { $0.copyMemory(from: source) }
    }

    /// Repeats it over `count` bytes, a multiple of its size.
    ///
    /// For small memory that is locked meanwhile; large memory is filled by `fillStep`.
    func fill(_ dest: UnsafeMutableRawPointer, _ count: Int) { repeated(dest, count) }

    /// The same, of a part of memory that others may read and write meanwhile.
    ///
    /// A function of its own, calls included, for the ThreadSanitizer: a race between two such
    /// fills is of the clients' making, and a race with `fill` is a mistake of ours.
    @inline(never)
    func fillStep(_ dest: UnsafeMutableRawPointer, _ count: Int) { repeated(dest, count) }

    @inline(__always)
    private func repeated(_ dest: UnsafeMutableRawPointer, _ count: Int) {
        if size == 1 {
            memset(dest, Int32(bytes.0 & 0xFF), count)
            return
        }
        withUnsafeTemporaryAllocation(byteCount: Pattern.blockSize, alignment: 64) { block in
            guard let start = block.baseAddress else { return }
            let whole = min(Pattern.blockSize / size * size, count)
            withUnsafeBytes(of: bytes) { source in
                guard let pattern = source.baseAddress else { return }
                for offset in stride(from: 0, to: whole, by: size) {
                    (start + offset).copyMemory(from: pattern, byteCount: size)
                }
            }
            var done = 0
            while done < count {
                let step = min(whole, count - done)
                (dest + done).copyMemory(from: start, byteCount: step)
                done += step
            }
        }
    }
}
