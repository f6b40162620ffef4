// What executing a request comes to: one of four outcomes, for every operation in either mode.

/// What executing a request comes to.
///
/// `Session.accept` is the only place that looks at it.
enum Outcome: ~Copyable {
    /// The reply is in the output.
    case answered
    /// The head of the reply is in the output; its data leaves straight from the allocation.
    case send(Pieces)
    /// The request was checked; its data is received straight into the allocation, then answered.
    case receive(Pieces)
    /// The reply comes when something else is done.
    case later(Pending)

    /// Whether the request is to be served once more.
    @inline(__always)
    var servesAgain: Bool {
        switch self {
        case .later(let pending): pending.servesAgain
        default: false
        }
    }
}
