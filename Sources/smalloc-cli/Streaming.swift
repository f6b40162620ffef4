// Any number of bytes between an allocation and a file or a pipe, in constant memory.

import Glibc
import Smalloc

/// Bytes that are in this process at a time: four of the library's chunks, so that it keeps several
/// requests under way, and a multiple of every element's size.
private let blockSize = 16 << 20

/// Calls with a block of memory.
private func withBlock<Result>(
    _ size: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Result
) rethrows -> Result {
    let block = UnsafeMutableRawBufferPointer.allocate(
        byteCount: max(1, min(size, blockSize)), alignment: 4096)
    defer { block.deallocate() }
    return try body(block)
}

/// Moves elements out, block by block.
///
/// - Parameters:
///   - allocation: Read from.
///   - range: Which of its elements.
///   - progress: Told after each block.
///   - body: Called with each block, in order; never with an empty one.
/// - Throws: What the body throws; what may have become of the allocation since it was opened.
func readBlocks(
    _ allocation: Allocation, _ range: ElementRange, progress: inout Progress,
    _ body: (UnsafeRawBufferPointer) throws -> Void
) throws {
    let elementSize = allocation.type.size
    let (start, count) = (range.start, range.count)
    guard count > 0 else { return }
    try withBlock(min(count, blockSize) * elementSize) { block in
        var done = 0
        while done < count {
            let part = min(count - done, block.count / elementSize)
            let bytes = UnsafeMutableRawBufferPointer(rebasing: block[..<(part * elementSize)])
            try allocation.read(into: bytes, from: start + done)
            try body(UnsafeRawBufferPointer(bytes))
            done += part
            TimeLimit.restart()
            progress.update(done * elementSize)
        }
    }
    progress.end()
}

/// Moves a file or a pipe into an allocation, to the file's end.
///
/// - Parameters:
///   - file: Read from where it stands.
///   - allocation: Written to.
///   - start: First element.
///   - progress: Told after each block.
/// - Returns: Elements written.
/// - Throws: `.outOfRange` when the file turns out to be longer than what is left of the
///   allocation (what fits has been written, if its size was not known before), `.invalidArgument`
///   if it ends within an element.
func writeFile(
    _ file: ByteFile, into allocation: Allocation, at start: Int, progress: inout Progress
) throws -> Int {
    let type = allocation.type
    let room = allocation.length - start
    if start < 0 || room < 0 { throw SmallocError.outOfRange("start > length") }
    if let size = file.remaining {
        try requireWholeElements(size, type)
        if size / type.size > room { throw SmallocError.outOfRange("start + count > length") }
    }
    let written = try withBlock(blockSize) { block in
        var done = 0
        while true {
            let size = try file.read(into: block)
            if size == 0 { return done }
            try requireWholeElements(size, type)
            guard size / type.size <= room - done else {
                throw SmallocError.outOfRange("start + count > length")
            }
            try allocation.write(UnsafeRawBufferPointer(rebasing: block[..<size]), at: start + done)
            done += size / type.size
            TimeLimit.restart()
            progress.update(done * type.size)
            if size < block.count { return done }
        }
    }
    progress.end()
    return written
}

/// Moves a file or a pipe into a new allocation of just its length.
///
/// A pipe's length is not known before its end. Its allocation begins small; when it is full, a
/// larger one takes its place and its bytes are copied inside the daemon, which for a while holds
/// both. The rest is cut off at the end.
///
/// - Returns: An anonymous allocation: nobody sees it before it is whole, and if anything fails it
///   is gone with the connection.
func upload(
    _ file: ByteFile, _ type: ElementType, to daemon: Smalloc, progress: inout Progress
) throws -> Allocation {
    if let size = file.remaining {
        try requireWholeElements(size, type)
        let allocation = try daemon.alloc(size / type.size, type)
        let count = try writeFile(file, into: allocation, at: 0, progress: &progress)
        // The file may have shrunk since; what was not written are zeros that were never in it.
        if count < allocation.length { try allocation.truncate(count) }
        return allocation
    }
    return try withBlock(blockSize) { block in
        var allocation = try daemon.alloc(block.count / type.size, type)
        var done = 0
        while true {
            let size = try file.read(into: block)
            try requireWholeElements(size, type)
            let count = size / type.size
            if done + count > allocation.length {
                let most = daemon.kMaxLength / type.size
                let wanted = max(min(allocation.length * 2, most), done + count)
                let larger = try daemon.alloc(wanted, type)
                try daemon.copyOnto(allocation, 0, larger, 0, done)
                try allocation.dispose()
                allocation = larger
            }
            if count > 0 {
                try allocation.write(UnsafeRawBufferPointer(rebasing: block[..<size]), at: done)
            }
            done += count
            TimeLimit.restart()
            progress.update(done * type.size)
            guard size < block.count else { continue }
            progress.end()
            if done < allocation.length { try allocation.truncate(done) }
            return allocation
        }
    }
}

private func requireWholeElements(_ size: Int, _ type: ElementType) throws(SmallocError) {
    guard size % type.size == 0 else {
        throw .invalidArgument(
            "\(size) bytes are not whole elements of \(type.name), \(type.size) bytes each")
    }
}
