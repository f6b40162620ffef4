// A few elements at a time, for async code: copied, which costs less than what lets large memory be
// sent and received where it is.

public import SmallocWire

/// A small range within what is known of an allocation.
@usableFromInline
struct SmallPart {
    let offset: UInt64
    /// Bytes.
    @usableFromInline let size: Int
    let start: Int
    /// Elements.
    @usableFromInline let count: Int

    /// Bytes up to which copying is cheaper.
    static var sizeMax: Int { 1024 }
}

extension AsyncAllocation {
    /// A range of elements, if it is small and certain.
    ///
    /// - Parameters:
    ///   - wanted: The element type of the array's elements.
    ///   - stride: Bytes that one of them takes there; a foreign type may claim what it is not.
    ///   - count: Elements; nil for all from `start` on.
    /// - Returns: nil also if the elements are of another type.
    /// - Throws: `.outOfRange` beyond a slice; `.cancelled`, so that nothing is asked for.
    @usableFromInline
    func smallPart(
        _ wanted: ElementType, stride: Int, _ start: Int, _ count: Int?
    ) throws(SmallocError) -> SmallPart? {
        try check()
        guard type.takes(wanted, stride: stride) else { return nil }
        let count = count ?? window.countFrom(start)
        let offset, size: UInt64
        let isKnown: Bool
        do throws(SmallocError) {
            (offset, size, isKnown) = try window.resolve(start, count, of: remote.size)
        } catch { throw view.explained(error, start: start, count: count) }
        guard size <= UInt64(SmallPart.sizeMax), isKnown else { return nil }
        if Task.isCancelled { throw .cancelled }
        return SmallPart(offset: offset, size: Int(size), start: start, count: count)
    }

    /// Reads a range.
    ///
    /// Written where it is called, in the caller's module too: a function of its own would cost its
    /// frame and a look at where it has to run.
    ///
    /// - Returns: A room with what was read, to be given back.
    @inlinable @inline(__always)
    func read(_ part: SmallPart) async throws(SmallocError) -> UnsafeMutableRawPointer? {
        var room: UnsafeMutableRawPointer?
        let answer = await withUnsafeContinuation { askToRead(part, &room, $0) }
        if !isDone(answer) { try await awaitLate(answer, part, room) }
        return room
    }

    /// Writes one; otherwise the same.
    ///
    /// - Parameter withBytes: Gives access to the range's bytes, which are copied before the task
    ///   waits.
    @inlinable @inline(__always)
    func write(
        _ part: SmallPart, _ withBytes: ((UnsafeRawBufferPointer) -> Void) -> Void
    ) async throws(SmallocError) {
        let answer = await withUnsafeContinuation { waiter in
            withBytes { askToWrite(part, $0, waiter) }
        }
        if !isDone(answer) { try await awaitLate(answer, part, nil) }
    }

    @usableFromInline
    func askToRead(
        _ part: SmallPart, _ room: UnsafeMutablePointer<UnsafeMutableRawPointer?>, _ waiter: Waiter
    ) {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        remote.ask(.read, part, none, size: part.size, room: room, waiter)
    }

    @usableFromInline
    func giveBack(_ room: UnsafeMutableRawPointer) { remote.owner.link.rooms.giveBack(room) }

    @usableFromInline
    func askToWrite(_ part: SmallPart, _ bytes: UnsafeRawBufferPointer, _ waiter: Waiter) {
        remote.ask(.write, part, bytes, size: 0, room: nil, waiter)
    }

    /// Whether it went as it was asked for; else `awaitLate` tells what there is.
    @usableFromInline
    func isDone(_ answer: Answer) -> Bool {
        remote.owner.link.takeOver()
        return answer.more == nil
    }

    /// Waits on if that is what the answer says, and throws its error.
    @usableFromInline
    func awaitLate(
        _ answer: Answer, _ part: SmallPart, _ room: UnsafeMutableRawPointer?
    ) async throws(SmallocError) {
        do throws(SmallocError) {
            _ = try await remote.owner.link.awaitLate(answer)
        } catch {
            if let room { giveBack(room) }
            throw view.explained(error, start: part.start, count: part.count)
        }
    }
}

extension Remote where Owner == AsyncOwner {
    /// One call away from the link: with two the compiler would count a reference up and down.
    @inline(never)
    fileprivate func ask(
        _ operation: Operation, _ part: SmallPart, _ body: UnsafeRawBufferPointer, size: Int,
        room: UnsafeMutablePointer<UnsafeMutableRawPointer?>?, _ waiter: Waiter
    ) {
        owner.link.ask(
            .access(operation, handle, offset: part.offset, size: UInt64(part.size)), body,
            size: size, room: room, self, waiter)
    }
}
