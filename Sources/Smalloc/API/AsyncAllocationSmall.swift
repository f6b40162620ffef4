// A few elements at a time, for async code: copied, which costs less than what lets large memory be
// sent and received where it is.

public import SmallocWire

/// A small range within what is known of an allocation.
@usableFromInline
struct SmallPart {
    let offset: UInt64
    /// Bytes.
    let size: Int
    /// Elements.
    @usableFromInline let count: Int
    @usableFromInline let zeros: UnsafeRawPointer

    /// Bytes up to which copying is cheaper.
    static var sizeMax: Int { 1024 }

    /// As many zeros, never freed.
    nonisolated(unsafe) fileprivate static let zeros = UnsafeRawPointer(
        UnsafeMutableRawPointer.allocate(byteCount: sizeMax, alignment: 16)
            .initializeMemory(as: UInt8.self, repeating: 0, count: sizeMax))

    /// A new array for the range.
    ///
    /// Made of zeros, as the compiler specialises copying and does not specialise making an array
    /// with its memory as it comes, which takes 300 instructions more.
    @inlinable
    func array<Element: BitwiseCopyable>(of type: Element.Type) -> [Element] {
        Array(UnsafeBufferPointer(start: zeros.assumingMemoryBound(to: type), count: count))
    }
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
        let type = type
        guard wanted == type || (wanted == .uint8 && type == .uint8Clamped), stride == type.size
        else { return nil }
        let window = window
        let count = count ?? window.countFrom(start)
        let (offset, size) = try window.resolve(start, count)
        let held = UInt64(remote.size)
        guard size <= UInt64(SmallPart.sizeMax), offset <= held, size <= held - offset else {
            return nil
        }
        if Task.isCancelled { throw .cancelled }
        return SmallPart(
            offset: offset, size: Int(size), count: count, zeros: SmallPart.zeros)
    }

    /// Reads a range.
    ///
    /// Written where it is called, in the caller's module too: a function of its own would cost its
    /// frame and a look at where it has to run.
    ///
    /// - Parameter room: Memory for the range, which stays until this returns or throws.
    @inlinable @inline(__always)
    func read(
        _ part: SmallPart, into room: UnsafeMutableRawPointer?
    ) async throws(SmallocError) {
        let answer = await withUnsafeContinuation { askToRead(part, room, $0) }
        if !isDone(answer) { try await settle(answer) }
    }

    /// Writes one; otherwise the same.
    ///
    /// - Parameter memory: The range's bytes, which stay until this returns or throws.
    @inlinable @inline(__always)
    func write(
        _ part: SmallPart, from memory: UnsafeRawPointer?
    ) async throws(SmallocError) {
        let answer = await withUnsafeContinuation { askToWrite(part, memory, $0) }
        if !isDone(answer) { try await settle(answer) }
    }

    @usableFromInline
    func askToRead(_ part: SmallPart, _ room: UnsafeMutableRawPointer?, _ waiter: Waiter) {
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        remote.ask(.read, part, none, size: part.size, room: room, waiter)
    }

    @usableFromInline
    func askToWrite(_ part: SmallPart, _ memory: UnsafeRawPointer?, _ waiter: Waiter) {
        let bytes = UnsafeRawBufferPointer(start: memory, count: memory == nil ? 0 : part.size)
        remote.ask(.write, part, bytes, size: 0, room: nil, waiter)
    }

    /// Whether it went as it was asked for; else `settle` tells what there is.
    @usableFromInline
    func isDone(_ answer: Answer) -> Bool {
        remote.link.takeOver()
        return answer.more == nil
    }

    /// Waits on if that is what the answer says, and throws its error.
    @usableFromInline
    func settle(_ answer: Answer) async throws(SmallocError) {
        _ = try await remote.link.settle(answer)
    }
}

extension AsyncRemote {
    /// One step from the link: two, and the compiler counts a reference up and down.
    @inline(never)
    fileprivate func ask(
        _ operation: Operation, _ part: SmallPart, _ body: UnsafeRawBufferPointer, size: Int,
        room: UnsafeMutableRawPointer?, _ waiter: Waiter
    ) {
        link.ask(
            .access(operation, handle, offset: part.offset, size: UInt64(part.size)), body,
            size: size, room: room, self, waiter)
    }
}
