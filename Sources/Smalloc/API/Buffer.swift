// A Buffer-like class on top of alloc: what the document says smalloc is for.

public import SmallocWire

extension Smalloc {
    /// Bytes in the daemon with the habits of Node's `Buffer`.
    ///
    /// Everything is a byte, so positions, lengths and sizes agree. `dispose` refuses it (`obj
    /// cannot be a Buffer`): its memory goes when it is released.
    ///
    /// ```swift
    /// let buffer = try Smalloc.Buffer("hello")
    /// buffer[0] = 72
    /// try print(buffer.toString())  // Hello
    /// ```
    public final class Buffer: Smalloc.Holder {
        /// The bytes.
        ///
        /// Set by `alloc` and `sliceOnto`; not to be replaced.
        public var allocation: Allocation?

        /// Allocates zero-filled bytes.
        ///
        /// - Parameters:
        ///   - length: Bytes, from 0 to `kMaxLength`.
        ///   - smalloc: The connection; nil for the default one.
        /// - Throws: As `Smalloc.alloc(_:_:shareable:)`.
        ///
        /// Node: `new Buffer(size)`.
        public init(_ length: Int, on smalloc: Smalloc? = nil) throws(SmallocError) {
            if let smalloc {
                try smalloc.alloc(length, self)
            } else {
                try Smalloc.standard.alloc(length, self)
            }
        }

        /// Allocates as many bytes as given, and writes them.
        ///
        /// Node: `new Buffer(array)`.
        public convenience init(
            _ bytes: [UInt8], on smalloc: Smalloc? = nil
        ) throws(SmallocError) {
            try self.init(bytes.count, on: smalloc)
            try write(bytes)
        }

        /// Allocates room for a text in UTF-8, and writes it.
        ///
        /// Node: `new Buffer(str)`.
        public convenience init(
            _ text: String, on smalloc: Smalloc? = nil
        ) throws(SmallocError) {
            try self.init(Array(text.utf8), on: smalloc)
        }

        private init(slice: Allocation) { allocation = slice }

        /// Bytes.
        public var length: Int { allocation?.length ?? 0 }

        private func held() throws(SmallocError) -> Allocation {
            guard let allocation else { throw .noData }
            return allocation
        }

        /// Writes bytes.
        ///
        /// - Parameters:
        ///   - bytes: What to write.
        ///   - offset: First byte written, from 0 to length.
        /// - Throws: As `Allocation.write(_:at:)`; nothing is cut off to fit.
        public func write(_ bytes: [UInt8], at offset: Int = 0) throws(SmallocError) {
            try held().write(bytes, at: offset)
        }

        /// Writes a text in UTF-8.
        ///
        /// - Returns: Bytes written.
        /// - Throws: As `Allocation.write(_:at:)`; nothing is cut off to fit.
        ///
        /// Node: `buf.write(string, offset)`.
        @discardableResult
        public func write(_ text: String, at offset: Int = 0) throws(SmallocError) -> Int {
            let bytes = Array(text.utf8)
            try write(bytes, at: offset)
            return bytes.count
        }

        /// Bytes from `start` to before `end`; nil for to the end.
        ///
        /// - Throws: As `Allocation.read(_:from:count:)`.
        public func bytes(_ start: Int = 0, _ end: Int? = nil) throws(SmallocError) -> [UInt8] {
            let allocation = try held()
            let end = end ?? allocation.length
            if end < start, start <= allocation.length { throw .outOfRange("start > end") }
            return try allocation.read(UInt8.self, from: start, count: max(0, end - max(start, 0)))
        }

        /// The same as a text; bytes that are no UTF-8 become U+FFFD.
        ///
        /// Node: `buf.toString('utf8', start, end)`.
        public func toString(_ start: Int = 0, _ end: Int? = nil) throws(SmallocError) -> String {
            String(decoding: try bytes(start, end), as: UTF8.self)
        }

        /// Stores one byte into many.
        ///
        /// The number is converted as by a store into `Uint8`.
        ///
        /// Node: `buf.fill(value, offset, end)`.
        public func fill(
            _ value: Double, _ offset: Int = 0, _ end: Int? = nil
        ) throws(SmallocError) {
            let allocation = try held()
            let end = end ?? allocation.length
            if end < offset, offset <= allocation.length { throw .outOfRange("start > end") }
            try allocation.fill(value, from: offset, count: max(0, end - max(offset, 0)))
        }

        /// Copies bytes onto another object, inside the daemon.
        ///
        /// - Parameters:
        ///   - target: Any object with an allocation on the same connection.
        ///   - targetStart: First element written, in the target's elements.
        ///   - sourceStart: First byte read.
        ///   - sourceEnd: The byte after the last; nil for to the end.
        /// - Throws: As `Smalloc.copyOnto`.
        ///
        /// Node: `buf.copy(target, targetStart, sourceStart, sourceEnd)`.
        public func copy(
            _ target: AnyObject, _ targetStart: Int = 0, _ sourceStart: Int = 0,
            _ sourceEnd: Int? = nil
        ) throws(SmallocError) {
            let from = try Receivers.allocation(of: self, orThrow: .sourceNotAnObject)
            let onto = try Receivers.allocation(of: target, orThrow: .destNotAnObject)
            guard let from = from?.currentView else { throw .noSourceData }
            guard let onto = onto?.currentView else { throw .noDestData }
            let count = (sourceEnd ?? from.length).subtractingReportingOverflow(sourceStart)
            try from.copy(
                sourceStart, count.overflow ? -1 : count.partialValue, onto: onto, targetStart)
        }

        /// A Buffer that looks onto a part of this one's memory and keeps it alive.
        ///
        /// - Throws: `.outOfRange`.
        ///
        /// Node: `buf.slice(start, end)`.
        public func slice(_ start: Int = 0, _ end: Int? = nil) throws(SmallocError) -> Buffer {
            Buffer(slice: try held().slice(start, end))
        }

        /// Reads an integer of any width.
        ///
        /// - Parameters:
        ///   - type: `UInt16.self` and the like.
        ///   - offset: Its first byte.
        ///   - bigEndian: Byte order; little-endian unless true.
        /// - Throws: As `Allocation.read(_:from:count:)`.
        ///
        /// Node: `buf.readUInt16LE(offset)` and its like.
        public func readInteger<Value: FixedWidthInteger & BitwiseCopyable>(
            _ type: Value.Type, at offset: Int, bigEndian: Bool = false
        ) throws(SmallocError) -> Value {
            var value = Value.zero
            try withUnsafeMutableBytes(of: &value) { bytes throws(SmallocError) in
                try held().read(into: bytes, from: offset)
            }
            return bigEndian ? Value(bigEndian: value) : Value(littleEndian: value)
        }

        /// Writes an integer of any width.
        ///
        /// - Throws: As `Allocation.write(_:at:)`.
        ///
        /// Node: `buf.writeUInt16LE(value, offset)` and its like.
        public func writeInteger<Value: FixedWidthInteger & BitwiseCopyable>(
            _ value: Value, at offset: Int, bigEndian: Bool = false
        ) throws(SmallocError) {
            let value = bigEndian ? value.bigEndian : value.littleEndian
            try withUnsafeBytes(of: value) { bytes throws(SmallocError) in
                try held().write(bytes, at: offset)
            }
        }
    }
}
