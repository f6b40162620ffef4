// An allocation as memory of this process: what `map` returns.

internal import Glibc
public import SmallocWire

extension Smalloc {
    /// Elements of an allocation as memory of this process, shared with all that use it: other
    /// mappings, and requests by frames and by text.
    ///
    /// Bounds are checked, as an array's are: an index outside is a programming error and stops the
    /// program, as does storing where the mapping is for reading only; what it prints names the
    /// index and the count. The memory stays until the last copy of the mapping goes, also after
    /// others have disposed of the allocation, and after the daemon has ended. An anonymous
    /// allocation stays with it, too. A copy is the same memory. A fork of the process has the
    /// memory as well.
    ///
    /// ```swift
    /// let map = try a.map(Double.self)
    /// map[0] = 1.5
    /// map.withMutableSpan { elements in
    ///     for i in elements.indices { elements[i] *= 2 }
    /// }
    /// let sum = map.withSpan { elements in
    ///     var sum = 0.0
    ///     for i in elements.indices { sum += elements[i] }
    ///     return sum
    /// }
    /// ```
    ///
    /// A span of it can't outlive the call, and with that not the mapping: the compiler refuses
    /// what would let it. A loop by index or over a span is as fast as one over an array's buffer.
    ///
    /// What another process stores shows up as it does between threads that share memory: a single
    /// aligned element is read and stored whole, and nothing else is ordered. Elements of integer
    /// types have atomic methods, which order what is around them, and those of `Int32` and
    /// `UInt32` can be waited on. See protocol/spec.md § 3.8 and § 3.10.
    public struct Mapping<Element: Smalloc.Element>: @unchecked Sendable {
        @usableFromInline let memory: MappedMemory
        let remote: any MappedRemote
        @usableFromInline let start: UnsafeMutablePointer<Element>
        /// Elements.
        public let count: Int
        /// Whether elements can be stored.
        public let isWritable: Bool

        init(_ memory: MappedMemory, _ remote: any MappedRemote, offset: Int, count: Int) {
            self.memory = memory
            self.remote = remote
            start = (memory.base + offset).assumingMemoryBound(to: Element.self)
            self.count = count
            isWritable = memory.isWritable
        }

        /// The indices of its elements.
        public var indices: Range<Int> { 0..<count }

        /// An element.
        ///
        /// Cost: that of memory.
        ///
        /// - Parameter index: From 0 to `count` - 1. Storing needs `isWritable`.
        @inlinable
        public subscript(index: Int) -> Element {
            get {
                check(index)
                defer { withExtendedLifetime(self) {} }
                return start[index]
            }
            nonmutating set {
                check(index)
                checkWritable()
                defer { withExtendedLifetime(self) {} }
                start[index] = newValue
            }
        }

        @inlinable @inline(__always)
        func check(_ index: Int) {
            if index < 0 || index >= count { outOfRange(index) }
        }

        @inlinable @inline(__always)
        func checkWritable() { if !isWritable { notWritable() } }

        // Not preconditions, whose texts a release build does not print.

        @usableFromInline @inline(never)
        func outOfRange(_ index: Int) -> Never {
            fatalError("index \(index) is out of range of a mapping of \(count) elements")
        }

        @usableFromInline @inline(never)
        func notWritable() -> Never {
            fatalError("the mapping is for reading only")
        }

        /// Calls back with all elements, for reading.
        ///
        /// - Parameter body: The span is valid until it returns.
        @inlinable
        public func withSpan<Result, Failure: Error>(
            _ body: (Span<Element>) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            defer { withExtendedLifetime(self) {} }
            return try body(Span(_unsafeStart: start, count: count))
        }

        /// Calls back with all elements, for reading.
        ///
        /// - Parameter body: The buffer is valid until it returns.
        @inlinable
        public func withUnsafeBufferPointer<Result, Failure: Error>(
            _ body: (UnsafeBufferPointer<Element>) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            defer { withExtendedLifetime(self) {} }
            return try body(UnsafeBufferPointer(start: start, count: count))
        }

        /// Calls back with all elements, for reading and storing.
        ///
        /// Needs `isWritable`.
        ///
        /// - Parameter body: The span is valid until it returns.
        @inlinable
        public func withMutableSpan<Result, Failure: Error>(
            _ body: (inout MutableSpan<Element>) throws(Failure) -> Result
        ) throws(Failure) -> Result {
            checkWritable()
            defer { withExtendedLifetime(self) {} }
            var span = MutableSpan(_unsafeStart: start, count: count)
            return try body(&span)
        }

        /// Whether the allocation is still there, as far as the daemon has told in shared memory.
        ///
        /// Asks nobody. False after it was disposed of. A daemon that has ended says nothing any
        /// more, and none says anything of an allocation that had no elements when it was mapped:
        /// for that it is true.
        public var isLive: Bool { memory.liveSize != nil }

        /// Elements that the allocation has now; beyond them there are zeros, and nothing that is
        /// stored there is anyone's.
        ///
        /// Less than `count` after a truncate, 0 after a dispose.
        public var liveCount: Int {
            guard let size = memory.liveSize else { return 0 }
            let from = UnsafeRawPointer(start) - UnsafeRawPointer(memory.base)
            let rest = max(0, Int(clamping: size) - from)
            return min(count, rest / MemoryLayout<Element>.stride)
        }
    }
}

extension Allocation {
    /// Maps it: its elements become memory of this process.
    ///
    /// The first map of an allocation that was not made for it takes as long as copying it.
    ///
    /// - Parameters:
    ///   - element: The Swift type of the elements; must have the allocation's element type. `Bool`
    ///     elements are mapped as `UInt8`, true unless they are 0: another client may store any
    ///     byte there.
    ///   - writable: Whether elements can be stored; else the system refuses it, too.
    ///   - populate: Whether its pages are made now, so that no access waits for one.
    /// - Throws: An earlier failure of a subscript; `.invalidArgument` for another element type, or
    ///   for `Bool`; `.unknownOperation` over TCP; `.noData`; the limits' errors; `.frozen`;
    ///   `.busy`; transport errors.
    ///
    /// Wire: `map`.
    public func map<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, writable: Bool = true, populate: Bool = false
    ) throws(SmallocError) -> Smalloc.Mapping<Element> {
        let view = try checkedView()
        do throws(SmallocError) {
            try view.type.checkMapped(element)
            return try view.mapping(
                of: view.connection.map(view.remote, writable: writable, populate: populate))
        } catch { throw view.explained(error) }
    }

    /// Makes its elements unchangeable, for good and for everybody, this process included.
    ///
    /// What the library has mapped on this connection for large transfers it lets go of before.
    /// What others have mapped so keeps it `.busy` until their `Allocation` goes, unless they have
    /// `Smalloc.Options.mapsLargeTransfers` off.
    ///
    /// - Throws: An earlier failure of a subscript; `.noData`; `.busy` while something writes, or
    ///   has it mapped for that; transport errors.
    ///
    /// Wire: `freeze`.
    public func freeze() throws(SmallocError) {
        let view = try checkedView()
        do throws(SmallocError) {
            try view.connection.freeze(.handle(view.remote.handle), on: view.remote)
        } catch { throw view.explained(error) }
    }
}

extension AsyncAllocation {
    /// Maps it: its elements become memory of this process.
    ///
    /// See `Allocation.map(_:writable:populate:)`.
    ///
    /// - Throws: `.invalidArgument` for another element type, and for `Bool`; `.unknownOperation`
    ///   over TCP; `.noData`; the limits' errors; `.frozen`; `.busy`; `.cancelled`; transport
    ///   errors.
    ///
    /// Wire: `map`.
    public func map<Element: Smalloc.Element>(
        _ element: Element.Type = Element.self, writable: Bool = true, populate: Bool = false
    ) async throws(SmallocError) -> Smalloc.Mapping<Element> {
        let view = try checkedView()
        do throws(SmallocError) {
            try view.type.checkMapped(element)
            return try view.mapping(
                of: await remote.owner.link.map(remote, writable: writable, populate: populate))
        } catch { throw view.explained(error) }
    }

    /// Makes its elements unchangeable, for good and for everybody, this process included.
    ///
    /// What the library has mapped on this connection for large transfers it lets go of before.
    /// What others have mapped so keeps it `.busy` until their `Allocation` goes, unless they have
    /// `Smalloc.Options.mapsLargeTransfers` off.
    ///
    /// - Throws: `.noData`; `.busy` while something writes, or has it mapped for that;
    ///   `.cancelled`; transport errors.
    ///
    /// Wire: `freeze`.
    public func freeze() async throws(SmallocError) {
        _ = try checkedView()
        // The library's own mappings for large transfers would be in the way.
        remote.owner.transferMappings.release()
        try await call(.freeze(.handle(remote.handle)))
    }
}

extension View {
    /// The part of a mapping that it looks at.
    ///
    /// Takes note of what the daemon has told of its size.
    func mapping<Element: Smalloc.Element>(
        of memory: MappedMemory
    ) throws(SmallocError) -> Smalloc.Mapping<Element> {
        remote.shrink(to: memory.size)
        let window = window
        let offset = min(window.start, memory.size)
        return Smalloc.Mapping(
            memory, MappedUse(remote), offset: offset,
            count: min(window.size, memory.size - offset) / MemoryLayout<Element>.stride)
    }
}
