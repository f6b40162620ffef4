import Glibc

/// Bytes that grow at their end, on raw memory.
///
/// Used while requests and expected replies are rendered, never while they are sent.
struct ByteBuilder: ~Copyable {
    private(set) var base: UnsafeMutableRawPointer
    private(set) var count = 0
    private var capacity: Int

    init(capacity: Int = 4096) {
        self.capacity = capacity
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { base.deallocate() }

    mutating func removeAll() { count = 0 }

    /// Room for `size` more bytes; the place where they belong.
    mutating func extend(by size: Int) -> UnsafeMutableRawPointer {
        if count + size > capacity {
            capacity = max(capacity * 2, count + size)
            let moved = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
            moved.copyMemory(from: base, byteCount: count)
            base.deallocate()
            base = moved
        }
        defer { count += size }
        return base + count
    }

    mutating func append(_ text: StaticString) {
        let size = text.utf8CodeUnitCount
        extend(by: size).copyMemory(from: text.utf8Start, byteCount: size)
    }

    mutating func append(text: String) {
        var text = text
        text.withUTF8 { bytes in
            guard let base = bytes.baseAddress else { return }
            extend(by: bytes.count).copyMemory(from: base, byteCount: bytes.count)
        }
    }

    mutating func append<Integer: FixedWidthInteger>(littleEndian value: Integer) {
        extend(by: MemoryLayout<Integer>.size).storeBytes(of: value.littleEndian, as: Integer.self)
    }

    /// Appends the decimal digits of `value`, with zeros in front up to `width`.
    mutating func append(decimal value: Int, width: Int = 1) {
        var digits = 1
        var rest = value
        while rest >= 10 {
            digits += 1
            rest /= 10
        }
        digits = max(digits, width)
        let place = extend(by: digits)
        rest = value
        for index in stride(from: digits - 1, through: 0, by: -1) {
            place.storeBytes(
                of: UInt8(truncatingIfNeeded: 48 + rest % 10), toByteOffset: index, as: UInt8.self)
            rest /= 10
        }
    }
}
