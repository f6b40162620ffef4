// The Swift types whose memory is an element's memory, for transfers without conversion.
// Those that Swift has not are in ElementValues.swift.

public import SmallocWire

extension Smalloc {
    /// A Swift value with the layout of an element type: `Int8`, `UInt8`, `Int16`, `UInt16`,
    /// `Int32`, `UInt32`, `Float`, `Double`, `Int64`, `UInt64`, `Float16`, `Bool`, and of this
    /// library `Smalloc.Bfloat16`, `Smalloc.ComplexFloat`, `Smalloc.ComplexDouble`.
    ///
    /// Bulk reads and writes move memory and convert nothing, so the Swift type must be the
    /// allocation's (`UInt8` serves `Uint8` and `Uint8Clamped`). For conversion see `numbers` and
    /// `store`.
    public protocol Element: BitwiseCopyable, Sendable {
        /// The element type that has this layout; the one `alloc` takes for it.
        static var elementType: ElementType { get }
    }
}

extension Int8: Smalloc.Element {
    /// `Int8`, number 1.
    @inlinable public static var elementType: ElementType { .int8 }
}
extension UInt8: Smalloc.Element {
    /// `Uint8`, number 2.
    ///
    /// `Uint8Clamped` memory is read and written as `UInt8`, too.
    @inlinable public static var elementType: ElementType { .uint8 }
}
extension Int16: Smalloc.Element {
    /// `Int16`, number 3.
    @inlinable public static var elementType: ElementType { .int16 }
}
extension UInt16: Smalloc.Element {
    /// `Uint16`, number 4.
    @inlinable public static var elementType: ElementType { .uint16 }
}
extension Int32: Smalloc.Element {
    /// `Int32`, number 5.
    @inlinable public static var elementType: ElementType { .int32 }
}
extension UInt32: Smalloc.Element {
    /// `Uint32`, number 6.
    @inlinable public static var elementType: ElementType { .uint32 }
}
extension Float: Smalloc.Element {
    /// `Float`, number 7.
    @inlinable public static var elementType: ElementType { .float }
}
extension Double: Smalloc.Element {
    /// `Double`, number 8.
    @inlinable public static var elementType: ElementType { .double }
}
extension Int64: Smalloc.Element {
    /// `Int64`, number 10.
    @inlinable public static var elementType: ElementType { .int64 }
}
extension UInt64: Smalloc.Element {
    /// `Uint64`, number 11.
    @inlinable public static var elementType: ElementType { .uint64 }
}
extension Float16: Smalloc.Element {
    /// `Float16`, number 12.
    @inlinable public static var elementType: ElementType { .float16 }
}
extension Bool: Smalloc.Element {
    /// `Bool`, number 14.
    ///
    /// What another client has written there is true unless it is 0.
    @inlinable public static var elementType: ElementType { .bool }
}

/// Makes values of what was received: any byte may have been written where a `Bool` is read, and
/// only two of them are one.
@inlinable @inline(__always)
func settle<Value>(_ memory: UnsafeMutableRawBufferPointer, as value: Value.Type) {
    guard Value.self == Bool.self else { return }
    for index in memory.indices { memory[index] = memory[index] == 0 ? 0 : 1 }
}

extension ElementType {
    /// Refuses a Swift type that is not this element type's.
    func check<Element: Smalloc.Element>(_ element: Element.Type) throws(SmallocError) {
        let wanted = element.elementType
        guard wanted == self || (wanted == .uint8 && self == .uint8Clamped),
            MemoryLayout<Element>.stride == size
        else {
            throw .wrongElement("\(element)", self)
        }
    }

    /// Refuses a Swift type that elements of this type can't be mapped as.
    ///
    /// Any byte may be stored where a `Bool` is, at any time, and only two of them are one: they
    /// are mapped as bytes.
    func checkMapped<Element: Smalloc.Element>(_ element: Element.Type) throws(SmallocError) {
        if self == .bool, element == UInt8.self { return }
        if element == Bool.self {
            throw .invalidArgument("a mapping has no Bool elements: map them as UInt8")
        }
        try check(element)
    }

    /// Refuses a type whose elements no `Double` can hold.
    @inline(__always)
    func checkDouble() throws(SmallocError) {
        guard isDouble else { throw .wrongElement("Double", self) }
    }

    /// Elements in `size` bytes; refuses a part of one.
    func count(bytes size: Int) throws(SmallocError) -> Int {
        guard size & (self.size - 1) == 0 else { throw .partOfElement(size, self) }
        return size >> shift
    }
}
