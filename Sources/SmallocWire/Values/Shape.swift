// How the elements of an allocation lie in dimensions.

/// Up to eight dimensions, the last one of which lies closest together; none of them is a scalar's.
///
/// Plain words, so that one can be made and told without memory of its own.
public struct Shape: Equatable, Sendable {
    /// Dimensions at most.
    @inlinable public static var rankMax: Int { 8 }
    /// The rank on the wire of what has no shape.
    @inlinable public static var noRank: UInt64 { .max }

    /// How many dimensions there are, 0 to 8.
    public private(set) var rank = 0
    private var sizes = InlineArray<8, UInt64>(repeating: 0)

    /// A scalar's: no dimension, one element.
    public init() {}

    /// A dimension's elements.
    ///
    /// - Parameter dimension: From 0, less than `rank`.
    public subscript(dimension: Int) -> UInt64 { sizes[dimension] }

    /// Adds a dimension behind the others.
    ///
    /// - Returns: False: there are eight already.
    public mutating func append(_ size: UInt64) -> Bool {
        guard rank < Shape.rankMax else { return false }
        sizes[rank] = size
        rank += 1
        return true
    }

    /// Elements of all dimensions together; nil: more than 64 bits can say.
    public var length: UInt64? {
        // One that is empty is, however large the others are.
        if (0..<rank).contains(where: { sizes[$0] == 0 }) { return 0 }
        var product: UInt64 = 1
        for dimension in 0..<rank {
            let (next, overflow) = product.multipliedReportingOverflow(by: sizes[dimension])
            if overflow { return nil }
            product = next
        }
        return product
    }

    /// Whether rank and dimensions are the same.
    public static func == (left: Shape, right: Shape) -> Bool {
        left.rank == right.rank && (0..<left.rank).allSatisfy { left[$0] == right[$0] }
    }
}

extension Shape: CustomStringConvertible {
    /// As text mode has it: `512x256`, `scalar`.
    public var description: String {
        rank == 0 ? "scalar" : (0..<rank).map { "\(self[$0])" }.joined(separator: "x")
    }

    /// Reads `512x256` or `scalar`, the letters in any case; a dimension over 64 bits is the
    /// largest number, which no allocation has.
    ///
    /// Nil: anything else, more than eight dimensions among it.
    public init?(text word: RawSpan) {
        self.init()
        if word.byteCount == 6, word.text.lowercased() == "scalar" { return }
        var rest = word
        while true {
            let end = rest.withUnsafeBytes { bytes in
                bytes.firstIndex { $0 | 0x20 == UInt8(ascii: "x") }
            }
            let digits = rest.extracting(first: end ?? rest.byteCount)
            let isUnsigned = digits.withUnsafeBytes { ($0.first ?? 0) >= 0x30 }
            guard isUnsigned, let size = NumberText.index(digits), append(size) else { return nil }
            guard let end else { return }
            rest = rest.extracting(droppingFirst: end + 1)
        }
    }
}
