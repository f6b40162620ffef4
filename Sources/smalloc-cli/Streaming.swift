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
            // Printing millions of numbers takes its time, too.
            try TimeLimit.paused { try body(UnsafeRawBufferPointer(bytes)) }
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
/// - Throws: `.outOfRange` when the file turns out to be longer than what is left of the
///   allocation: nothing has been written if it is known after 16 MiB; `.invalidArgument` if it
///   ends within an element.
func writeFile(
    _ file: InputFile, into allocation: Allocation, at start: Int, progress: inout Progress
) throws {
    let type = allocation.type
    let room = try ElementRange(allocation, from: start).count * type.size
    func require(_ size: Int) throws {
        guard size > room else { return }
        let numbers =
            "\(file.path): start \(start), count \(size / type.size), length \(allocation.length)"
        throw SmallocError.outOfRange("start + count > length").detailed(numbers)
    }
    try withBlock(blockSize) { block in
        var done = 0
        while true {
            let size = try file.read(into: block)
            let isLast = size < block.count
            try require(done + size + (isLast ? 0 : file.remaining ?? 0))
            if isLast { try requireWholeElements(done + size, type, file) }
            let bytes = UnsafeRawBufferPointer(rebasing: block[..<size])
            try allocation.write(bytes, at: start + done / type.size)
            done += size
            TimeLimit.restart()
            progress.update(done)
            if isLast { break }
        }
    }
    progress.end()
}

/// What is to become of a file's bytes.
struct UploadedForm {
    /// What they are.
    var type: ElementType
    /// Dimensions; nil for none.
    var shape: [Int]?
    /// Bytes that are wanted; nil: all to the file's end.
    var size: Int?
    /// Bytes of what is to be turned round, as the machine has another byte order; 1: nothing.
    var swapped = 1
}

/// Moves a file or a pipe into a new allocation of just its length.
///
/// How many bytes come is not known before the end, whatever the system says. The allocation begins
/// with what has been read and what is said to follow; when it is full, a larger one takes its
/// place and its bytes are copied inside the daemon, which for a while holds both. The rest is cut
/// off at the end. Holes and zeros are not moved: new memory has zeros.
///
/// - Returns: An anonymous allocation: nobody sees it before it is whole, and if anything fails it
///   is gone with the connection.
func upload(
    _ file: InputFile, _ form: UploadedForm, to daemon: Smalloc, progress: inout Progress
) throws -> Allocation {
    var upload = Upload(daemon, form)
    let most = form.size ?? .max
    try withBlock(min(blockSize, max(most, 1))) { block in
        while true {
            upload.skip(file.skipHole(atMost: most - upload.size))
            let room = UnsafeMutableRawBufferPointer(
                rebasing: block[..<min(block.count, most - upload.size)])
            let size = try file.read(into: room)
            let isLast = size < room.count || upload.size + size == most
            if isLast, form.size != nil, upload.size + size < most {
                throw Failure(
                    file.path,
                    FileError("ends after \(upload.size + size) of \(most) bytes of elements"))
            }
            if isLast { try requireWholeElements(upload.size + size, form.type, file) }
            swapBytes(UnsafeMutableRawBufferPointer(rebasing: room[..<size]), form.swapped)
            try upload.append(
                UnsafeRawBufferPointer(rebasing: room[..<size]),
                following: isLast ? 0 : file.remaining, isLast: isLast)
            TimeLimit.restart()
            progress.update(upload.size)
            if isLast { break }
        }
    }
    progress.end()
    return try upload.finish()
}

/// A new allocation while its bytes come.
private struct Upload {
    private let daemon: Smalloc
    private let form: UploadedForm
    private var allocation: Allocation?
    /// Bytes that the allocation has.
    private var capacity = 0
    /// Bytes that have come.
    private(set) var size = 0
    /// Those of them that are not left out, with what lies between two of them left out.
    private var written: [Range<Int>] = []

    init(_ daemon: Smalloc, _ form: UploadedForm) {
        (self.daemon, self.form) = (daemon, form)
    }

    /// Zeros follow.
    mutating func skip(_ count: Int) { size += count }

    /// Bytes follow.
    ///
    /// - Parameters:
    ///   - bytes: Begin at a multiple of 4,096, and are whole elements.
    ///   - following: How many more are expected; nil: not known.
    ///   - isLast: Whether none will follow.
    mutating func append(
        _ bytes: UnsafeRawBufferPointer, following: Int?, isLast: Bool
    ) throws {
        try makeRoom(for: size + bytes.count, following: following, isLast: isLast)
        guard let allocation else { return }
        var done = 0
        while done < bytes.count {
            let run = zeroRun(in: bytes, from: done)
            defer { done += run.size }
            if run.isZero { continue }
            let part = UnsafeRawBufferPointer(rebasing: bytes[done..<(done + run.size)])
            let start = size + done
            try allocation.write(part, at: start / form.type.size)
            if let last = written.last, last.upperBound == start {
                written[written.count - 1] = last.lowerBound..<(start + run.size)
            } else {
                written.append(start..<(start + run.size))
            }
        }
        size += bytes.count
    }

    /// The allocation, as long as what has come.
    mutating func finish() throws -> Allocation {
        guard let allocation else { return try daemon.alloc(0, form.type) }
        if size < capacity { try allocation.truncate(size / form.type.size) }
        return allocation
    }

    private mutating func makeRoom(
        for needed: Int, following: Int?, isLast: Bool
    ) throws {
        guard needed > capacity || allocation == nil else { return }
        let unit = form.type.size
        // From the largest on; the last one is needed, what is more may be refused.
        var sizes = [form.size ?? needed]
        if form.size == nil, !isLast {
            if let following {
                // Of what grows while it is read, more each time.
                let all = needed.addedClamped(following)
                sizes = capacity / 2 + capacity > all ? [capacity / 2 + capacity, all] : [all]
            } else {
                // Nobody knows whether so many come.
                sizes = [min(needed.multipliedClamped(by: 2), daemon.kMaxLength), needed]
            }
            sizes = sizes.map { max(needed, $0 / unit * unit) }
        }
        let (larger, size) = try make(oneOf: sizes)
        if let allocation {
            for part in written {
                try daemon.copyOnto(
                    allocation, part.lowerBound / unit, larger, part.lowerBound / unit,
                    part.count / unit)
            }
            try allocation.dispose()
        }
        (allocation, capacity) = (larger, size)
    }

    /// An allocation of the first of some sizes that is not refused, and that size.
    private func make(oneOf sizes: [Int]) throws(SmallocError) -> (Allocation, Int) {
        for size in sizes.dropLast() {
            if let made = try? make(size) { return (made, size) }
        }
        let last = sizes[sizes.count - 1]
        return (try make(last), last)
    }

    private func make(_ size: Int) throws(SmallocError) -> Allocation {
        if let shape = form.shape { return try daemon.alloc(shape: shape, form.type) }
        return try daemon.alloc(size / form.type.size, form.type)
    }
}

extension Int {
    /// The sum, or the largest number where it would be larger.
    func addedClamped(_ other: Int) -> Int {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}

/// Turns each group of so many bytes round.
func swapBytes(_ bytes: UnsafeMutableRawBufferPointer, _ size: Int) {
    func swap<Word: FixedWidthInteger & BitwiseCopyable>(_ type: Word.Type) {
        for offset in stride(from: 0, to: bytes.count - size + 1, by: size) {
            let word = bytes.loadUnaligned(fromByteOffset: offset, as: type)
            bytes.storeBytes(of: word.byteSwapped, toByteOffset: offset, as: type)
        }
    }
    switch size {
    case 2: swap(UInt16.self)
    case 4: swap(UInt32.self)
    case 8: swap(UInt64.self)
    default: break
    }
}

private func requireWholeElements(
    _ size: Int, _ type: ElementType, _ file: InputFile
) throws(SmallocError) {
    guard size % type.size == 0 else {
        throw .invalidArgument(
            "\(file.path) has \(size) bytes, which are not whole elements of \(type.name), "
                + "\(type.size) bytes each")
    }
}
