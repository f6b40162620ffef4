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
        return SmallPart(
            offset: offset, size: Int(size), count: count, zeros: SmallPart.zeros)
    }

    /// - Parameter room: Memory for the range, which stays until this returns.
    @usableFromInline
    func read(
        _ part: SmallPart, into room: UnsafeMutableRawPointer?
    ) async throws(SmallocError) {
        _ = try await remote.owner.link.payload(
            .access(.read, remote.handle, offset: part.offset, size: UInt64(part.size)),
            size: part.size, into: room, remote)
    }

    /// - Parameter memory: The range's bytes, which stay until this returns.
    @usableFromInline
    func write(
        _ part: SmallPart, from memory: UnsafeRawPointer?
    ) async throws(SmallocError) {
        let link = remote.owner.link
        let bytes = UnsafeRawBufferPointer(start: memory, count: memory == nil ? 0 : part.size)
        _ = try await link.answer { waiter in
            _ = link.ask(
                .access(.write, remote.handle, offset: part.offset, size: UInt64(part.size)),
                bytes, size: 0, remote, waiter)
        }
    }
}
