// Slices by the ranges of the language, and what an allocation says of itself, on both faces.

internal import SmallocWire

extension Allocation {
    /// A slice: an object of its own that looks onto elements of this one.
    ///
    /// ```swift
    /// let head = try a[..<4]
    /// let rest = try a[4...]
    /// ```
    ///
    /// - Parameter bounds: Elements: `2..<5`, `2...4`, `2...`, `..<5`, `...4`.
    /// - Throws: An earlier failure of a subscript; `.noData`; `.outOfRange`. See
    ///   `Smalloc.sliceOnto`.
    public subscript(bounds: some RangeExpression<Int>) -> Allocation {
        get throws(SmallocError) {
            let (start, end) = elements(of: bounds)
            return try slice(start, end)
        }
    }

    /// A slice of all of it: `a[...]`.
    ///
    /// - Throws: An earlier failure of a subscript; `.noData`.
    public subscript(bounds: UnboundedRange) -> Allocation {
        get throws(SmallocError) { try slice(0) }
    }
}

extension AsyncAllocation {
    /// A slice: an object of its own that looks onto elements of this one, and keeps it open.
    ///
    /// ```swift
    /// let head = try a[..<4]
    /// let rest = try a[4...]
    /// ```
    ///
    /// - Parameter bounds: Elements: `2..<5`, `2...4`, `2...`, `..<5`, `...4`.
    /// - Throws: `.noData`; `.outOfRange`: `start > length`, `end > length`, `start > end`.
    public subscript(bounds: some RangeExpression<Int>) -> AsyncAllocation {
        get throws(SmallocError) {
            let (start, end) = elements(of: bounds)
            return try slice(start, end)
        }
    }

    /// A slice of all of it: `a[...]`.
    ///
    /// - Throws: `.noData`.
    public subscript(bounds: UnboundedRange) -> AsyncAllocation {
        get throws(SmallocError) { try slice(0) }
    }
}

/// The first element of a range, and the one after the last; nil: as far as there are any.
///
/// A range that lies outside, which the language would stop the program for, is told so as any
/// other: so it is not asked to fit itself into the elements.
private func elements(of bounds: some RangeExpression<Int>) -> (start: Int, end: Int?) {
    /// Of the last element of all there is none.
    func after(_ last: Int) -> Int { last == .max ? last : last + 1 }
    switch bounds {
    case let range as Range<Int>: return (range.lowerBound, range.upperBound)
    case let range as ClosedRange<Int>: return (range.lowerBound, after(range.upperBound))
    case let range as PartialRangeFrom<Int>: return (range.lowerBound, nil)
    case let range as PartialRangeUpTo<Int>: return (0, range.upperBound)
    case let range as PartialRangeThrough<Int>: return (0, after(range.upperBound))
    default:
        let range = bounds.relative(to: 0..<Int.max)
        return (range.lowerBound, range.upperBound == .max ? nil : range.upperBound)
    }
}

// MARK: Descriptions

extension Allocation: CustomStringConvertible {
    /// What it is, as far as is known here: `Allocation(readings, Double, length 77)`.
    ///
    /// Asks nobody.
    public var description: String {
        "Allocation(\(currentView?.summary ?? View<BlockingOwner>.nothing))"
    }
}

extension AsyncAllocation: CustomStringConvertible {
    /// What it is, as far as is known here: `AsyncAllocation(readings, Double, length 77)`.
    ///
    /// Asks nobody.
    public var description: String {
        "AsyncAllocation(\(liveView?.summary ?? View<AsyncOwner>.nothing))"
    }
}

extension View {
    /// Its name, what its elements are, and how many.
    fileprivate var summary: String { "\(label ?? "anonymous"), \(type.name), length \(length)" }
    fileprivate static var nothing: String { "no data" }
}
