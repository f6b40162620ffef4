// What an `atomic` request does to its cell. Source: protocol/spec.md § atomic.

/// What an atomic operation does to one element, its *cell*.
///
/// The raw value is the number on the wire.
@frozen
public enum AtomicAction: UInt8, CaseIterable, Sendable {
    case load = 1
    case store = 2
    case add = 3
    case sub = 4
    case and = 5
    case or = 6
    case xor = 7
    case exchange = 8
    case compareExchange = 9

    /// The action of a number from the wire, nil if there is none.
    ///
    /// As `init(rawValue:)`, but no search.
    @inlinable @inline(__always)
    public init?(wire number: UInt8) {
        let index = number &- 1
        guard index < 9 else { return nil }
        // The cases are numbered without a gap, and laid out in the order of their numbers.
        self = unsafeBitCast(index, to: AtomicAction.self)
    }

    /// The word in text mode, and the name in protocol/values.json.
    public var name: String { "\(self)" }

    /// Finds an action by its word, in any case.
    public init?(named word: String) {
        let wanted = word.lowercased()
        guard let found = AtomicAction.allCases.first(where: { $0.name.lowercased() == wanted })
        else { return nil }
        self = found
    }

    /// Values that it takes: 2 are the expected one and the new one.
    @inlinable
    public var valueCount: Int {
        switch self {
        case .load: 0
        case .compareExchange: 2
        default: 1
        }
    }
}
