/// A protocol as the bench speaks it: how each kind of work is asked for, and what must come back.
///
/// Every method appends one or more requests and the exact replies to a batch; a dialect does
/// nothing else.
protocol Dialect: Sendable {
    /// Where requests and replies carry a 64-bit cookie, or nil.
    var cookieOffset: Int? { get }

    /// Appends the request that asks for nothing.
    func ping(_ batch: inout BatchBuilder)

    /// Appends the making of an allocation of `size` zero bytes that is reachable by name.
    func create(_ target: Target, size: Int, _ batch: inout BatchBuilder)

    /// Appends the making of an allocation with the target's content.
    func createFilled(_ target: Target, size: Int, _ batch: inout BatchBuilder)

    /// Appends a read of the whole target, which must hold `content`.
    func read(_ target: Target, content: Pattern.Content, _ batch: inout BatchBuilder)

    /// Appends a write of the target's content over the whole target.
    func write(_ target: Target, size: Int, _ batch: inout BatchBuilder)

    /// Appends the end of the target.
    func dispose(_ target: Target, _ batch: inout BatchBuilder)

    /// Appends a copy of the whole of one target over another, and says whether the protocol can.
    func copy(
        _ source: Target, to destination: Target, size: Int, _ batch: inout BatchBuilder
    ) -> Bool
}

/// An allocation that the bench works on.
struct Target {
    /// Gives the name, `k` and nine digits, and the content.
    let number: Int
    /// The handle on the connection that uses it, or 0 to go by name.
    var handle: UInt32 = 0

    func content(_ size: Int) -> Pattern.Content { .init(number: number, size: size) }
}

extension ByteBuilder {
    /// The size of every name that the bench uses, in bytes.
    static let nameSize = 10

    mutating func append(nameOf target: Target) {
        append("k")
        append(decimal: target.number, width: Self.nameSize - 1)
    }
}
