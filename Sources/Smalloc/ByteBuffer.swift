// Growable raw memory for frames on their way out.

internal import SmallocWire

/// Bytes in memory that is kept between uses, so that a request allocates nothing.
struct ByteBuffer: ~Copyable {
    private var memory: UnsafeMutableRawPointer
    private var capacity: Int
    private(set) var count = 0

    init(capacity: Int) {
        self.capacity = capacity
        memory = .allocate(byteCount: capacity, alignment: 16)
    }

    deinit { memory.deallocate() }

    /// What it holds; valid until the next change.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: count) }

    mutating func append(_ header: FrameHeader) {
        reserve(FrameHeader.byteCount)
        header.write(to: memory + count)
        count += FrameHeader.byteCount
    }

    /// Appends a header and what follows it.
    @inline(__always)
    mutating func append(_ header: FrameHeader, _ body: UnsafeRawBufferPointer) {
        reserve(FrameHeader.byteCount + body.count)
        header.write(to: memory + count)
        count += FrameHeader.byteCount
        guard let base = body.baseAddress, body.count > 0 else { return }
        (memory + count).copyMemory(from: base, byteCount: body.count)
        count += body.count
    }

    mutating func append(_ source: UnsafeRawBufferPointer) {
        guard let base = source.baseAddress, source.count > 0 else { return }
        reserve(source.count)
        (memory + count).copyMemory(from: base, byteCount: source.count)
        count += source.count
    }

    /// Appends an integer in little-endian order.
    mutating func append<T: FixedWidthInteger & BitwiseCopyable>(_ value: T) {
        reserve(MemoryLayout<T>.size)
        (memory + count).storeBytes(of: value.littleEndian, as: T.self)
        count += MemoryLayout<T>.size
    }

    /// Overwrites an integer, in little-endian order, at an offset that was appended before.
    mutating func set<T: FixedWidthInteger & BitwiseCopyable>(_ value: T, at offset: Int) {
        precondition(offset >= 0 && offset + MemoryLayout<T>.size <= count)
        (memory + offset).storeBytes(of: value.littleEndian, as: T.self)
    }

    mutating func removeAll() {
        count = 0
        // One large request must not cost its size for ever.
        if capacity > 1 << 20 {
            memory.deallocate()
            capacity = 4096
            memory = .allocate(byteCount: capacity, alignment: 16)
        }
    }

    @inline(__always)
    private mutating func reserve(_ extra: Int) {
        if count + extra > capacity { grow(extra) }
    }

    @inline(never)
    private mutating func grow(_ extra: Int) {
        capacity = max(count + extra, capacity * 2)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        larger.copyMemory(from: memory, byteCount: count)
        memory.deallocate()
        memory = larger
    }
}
