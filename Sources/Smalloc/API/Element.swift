// The Swift types whose memory is an element's memory, for transfers without conversion.

public import SmallocWire

extension Smalloc {
    /// A Swift number with the layout of an element type: `Int8`, `UInt8`, `Int16`, `UInt16`,
    /// `Int32`, `UInt32`, `Float` and `Double`.
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
