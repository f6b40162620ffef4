// Memory for what the requests of a batch read.

/// Memory that is given out piece by piece, never moves, and is given back as a whole.
struct PayloadArena: ~Copyable {
    /// Each block begins with the address of the one before.
    private var block: UnsafeMutableRawPointer?
    private var next = UnsafeMutableRawPointer(bitPattern: 16)!
    private var left = 0
    /// Bytes of all blocks.
    private var total = 0

    private static var headSize: Int { 8 }
    private static var blockSizeMax: Int { 1 << 20 }

    init() {}

    deinit {
        var block = block
        while let memory = block {
            block = memory.load(as: UnsafeMutableRawPointer?.self)
            memory.deallocate()
        }
    }

    /// Takes a block of at least so many bytes, if there is none.
    mutating func reserve(_ size: Int) {
        if block == nil { addBlock(size) }
    }

    /// Memory for so many bytes, aligned for every element; valid for as long as the arena.
    @inline(__always)
    mutating func room(_ size: Int) -> UnsafeMutableRawPointer {
        let taken = (size + 7) & ~7
        // As much again as there is, within reason: few blocks, and little of them in vain.
        if taken > left { addBlock(max(taken, min(max(total, 1024), PayloadArena.blockSizeMax))) }
        defer {
            next += taken
            left -= taken
        }
        return next
    }

    @inline(never)
    private mutating func addBlock(_ size: Int) {
        let new = UnsafeMutableRawPointer.allocate(
            byteCount: PayloadArena.headSize + size, alignment: 16)
        new.storeBytes(of: block, as: UnsafeMutableRawPointer?.self)
        block = new
        next = new + PayloadArena.headSize
        left = size
        total += size
    }
}
