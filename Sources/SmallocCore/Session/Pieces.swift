// The data of one large request, on its way straight between a socket and an allocation: one range
// or a thousand, many of them in one system call.
//
// It keeps the allocation, the ranges and how far it has come, and no pointer between two system
// calls: each asks `access` again. A pin keeps the memory, as far as it reached at the beginning,
// until the end. It serves clients that move more than 64 KiB by one request: without it such data
// would be copied once more, and kept whole meanwhile.

internal import SmallocSystem
internal import SmallocWire

/// A payload that leaves from, or arrives in, an allocation.
///
/// Holds a reference, so that a dispose meanwhile takes nothing away under it. Ended by
/// `Registry.end`, once.
final class Pieces {
    /// Views of one system call at most.
    static let viewsMax = 64

    let allocation: Allocation
    /// Of the request, for the reply; the session notes them when it accepts the outcome.
    var operation: UInt8 = 0
    var cookie: UInt64 = 0
    /// Nanoseconds of `Clock.now` when the request was read.
    var startedAt: UInt64 = 0
    /// Bytes in all.
    let size: Int
    let intent: Intent
    private let ranges: Ranges
    private var index = 0
    private var position = 0
    /// Bytes still to move.
    private(set) var left: Int
    /// A system call moves bytes without the lock.
    private var isAtWork = false

    /// Takes over the caller's reference, and pins the memory.
    ///
    /// Under the allocation's lock.
    ///
    /// - Parameters:
    ///   - ranges: Their sum was checked against the frame size, so it fits.
    ///   - intent: What `access` is asked for.
    init(
        _ allocation: Allocation, _ ranges: consuming Ranges, _ intent: Intent,
        _ mappings: MappingPool
    ) {
        self.allocation = allocation
        self.intent = intent
        size = Int(ranges.total.bytes)
        left = size
        self.ranges = ranges
        allocation.pin(mappings, writes: intent != .read)
        advance(0)
    }

    /// How many ranges there are.
    var count: Int { ranges.count }

    private func range(_ index: Int) -> Extent { ranges.extents[index] }

    // MARK: Sending

    /// Fills `views` with the bytes that leave next, up to a range that is to be copied.
    ///
    /// They are valid until something else is done with the allocation by this thread, and for one
    /// system call.
    ///
    /// - Parameters:
    ///   - views: Room for `viewsMax`.
    ///   - sizeMax: Bytes at most.
    /// - Returns: How many views.
    func fill(_ views: UnsafeMutablePointer<UnsafeRawBufferPointer>, sizeMax: Int) -> Int {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        if allocation.needsLock { return 0 }
        var (count, sum, index, position) = (0, 0, index, position)
        while index < ranges.count, count < Pieces.viewsMax, sum < sizeMax {
            let range = range(index)
            let rest = range.size - position
            if range.size < Thresholds.viewSizeMin, rest > 0 { break }
            if rest > 0 {
                let size = min(rest, sizeMax - sum)
                views[count] = UnsafeRawBufferPointer(
                    start: place(range.offset + position, size), count: size)
                count += 1
                sum += size
                if size < rest { break }
            }
            index += 1
            position = 0
        }
        if count > 0 { beginWork() }
        return count
    }

    /// `count` bytes of the views have left, perhaps none.
    func sent(_ count: Int) {
        endWork()
        advance(count)
    }

    /// Whether what leaves next has to be copied: it is being moved.
    var mustCopy: Bool {
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        return allocation.needsLock
    }

    // Views and rooms are used without the lock: a promotion waits until that is over.

    private func beginWork() {
        guard !isAtWork else { return }
        isAtWork = true
        allocation.beginWork()
    }

    /// No view or room is used any more.
    func endWork() {
        guard isAtWork else { return }
        isAtWork = false
        allocation.lock.lock()
        allocation.endWork()
        allocation.lock.unlock()
    }

    /// Copies what leaves next to the output and passes it: small ranges, or, if `isForced`, any.
    ///
    /// - Parameter sizeMax: Bytes at most.
    /// - Returns: Bytes copied.
    func copy(to output: UnsafeMutablePointer<Output>, sizeMax: Int, isForced: Bool = false) -> Int
    {
        guard index < ranges.count, isForced || range(index).size < Thresholds.viewSizeMin else {
            return 0
        }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        var sum = 0
        while index < ranges.count, sum < sizeMax {
            let range = range(index)
            guard isForced || range.size < Thresholds.viewSizeMin else { break }
            let size = min(range.size - position, sizeMax - sum)
            output.pointee.append(place(range.offset + position, size), size)
            sum += size
            advance(size)
        }
        return sum
    }

    /// Copies what comes next to `room` and passes it, without a view that would have to be ended.
    ///
    /// - Parameter sizeMax: Bytes at most.
    /// - Returns: Bytes copied: not 0 while any are left.
    func copy(to room: UnsafeMutableRawPointer, sizeMax: Int) -> Int {
        guard index < ranges.count else { return 0 }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        let range = range(index)
        let size = min(range.size - position, sizeMax)
        room.copyMemory(from: place(range.offset + position, size), byteCount: size)
        advance(size)
        return size
    }

    // MARK: Receiving

    /// Where the next bytes belong that are worth a system call of their own; else empty.
    ///
    /// What comes there is told by `received`.
    func room(sizeMax: Int) -> UnsafeMutableRawBufferPointer {
        let none = UnsafeMutableRawBufferPointer(start: nil, count: 0)
        guard index < ranges.count, range(index).size >= Thresholds.viewSizeMin else { return none }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        if allocation.needsLock { return none }
        beginWork()
        let range = range(index)
        let size = min(range.size - position, sizeMax)
        return UnsafeMutableRawBufferPointer(
            start: place(range.offset + position, size), count: size)
    }

    /// `count` bytes, or none, have arrived in what `room` gave.
    func received(_ count: Int) {
        endWork()
        if intent == .overwrite {
            allocation.lock.lock()
            allocation.overwritten(upTo: position + count)
            allocation.lock.unlock()
        }
        advance(count)
    }

    /// Copies what has arrived elsewhere to where it belongs.
    ///
    /// - Returns: Bytes taken: all, or as many as were missing.
    func take(_ bytes: UnsafeRawBufferPointer) -> Int {
        guard let source = bytes.baseAddress else { return 0 }
        allocation.lock.lock()
        defer { allocation.lock.unlock() }
        var taken = 0
        while index < ranges.count, taken < bytes.count {
            let range = range(index)
            let size = min(range.size - position, bytes.count - taken)
            place(range.offset + position, size).copyMemory(
                from: source + taken, byteCount: size)
            if intent == .overwrite { allocation.overwritten(upTo: position + size) }
            taken += size
            advance(size)
        }
        return taken
    }

    // MARK: Progress

    /// The next bytes in memory.
    ///
    /// Under the lock. They are there: the first `access`, when the request was checked, made sure
    /// of it, and the pin keeps them.
    private func place(_ offset: Int, _ size: Int) -> UnsafeMutableRawPointer {
        guard case .here(let start) = allocation.access(Extent(offset: offset, size: size), intent)
        else { preconditionFailure("pinned memory is not at hand") }
        return start
    }

    /// `count` bytes have moved.
    func advance(_ count: Int) {
        left -= count
        position += count
        while index < ranges.count, position >= range(index).size {
            position -= range(index).size
            index += 1
        }
    }

    func checkInvariants() {
        precondition(left >= 0 && left <= size)
        precondition(index < ranges.count || left == 0)
        precondition(index == ranges.count || position < range(index).size)
        var rest = -position
        for each in index..<ranges.count { rest += range(each).size }
        precondition(index == ranges.count || rest == left, "ranges and bytes left differ")
    }
}
