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

    /// Without memory until there is something to hold.
    init() {
        capacity = 0
        memory = UnsafeMutableRawPointer(bitPattern: 16)!
    }

    deinit { if capacity > 0 { memory.deallocate() } }

    /// What it holds; valid until the next change.
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: memory, count: count) }

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

    /// Drops bytes from the start; the others move there.
    mutating func removeFirst(_ size: Int) {
        guard size < count else { return removeAll() }
        memory.copyMemory(from: memory + size, byteCount: count - size)
        count -= size
    }

    /// Makes room for so many more bytes.
    @inline(__always)
    mutating func reserve(_ extra: Int) {
        if count + extra > capacity { grow(extra) }
    }

    @inline(never)
    private mutating func grow(_ extra: Int) {
        let isFirst = capacity == 0
        capacity = max(count + extra, capacity * 2)
        let larger = UnsafeMutableRawPointer.allocate(byteCount: capacity, alignment: 16)
        larger.copyMemory(from: memory, byteCount: count)
        if !isFirst { memory.deallocate() }
        memory = larger
    }
}
