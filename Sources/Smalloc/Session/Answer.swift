// What a request on a connection came to, and the answers on their way to those that wait for them.

internal import SmallocWire

/// How a request ended.
///
/// Two words, so that handing it to the task that waits costs no copies; nearly every answer has no
/// `more`.
@usableFromInline
struct Answer: Sendable {
    /// The payload of a reply that was asked for by its size, if that has at most 8 bytes and was
    /// given no room.
    var number: UInt64 = 0
    /// nil if it went as it was asked for, and there is nothing else to tell.
    var more: More?

    init(number: UInt64 = 0) { self.number = number }
    init(_ reply: Reply) { more = More(.reply(reply)) }
    init(_ error: SmallocError) { more = More(.failure(error)) }
    init(late cookie: UInt64) { more = More(.late(cookie)) }

    /// What does not fit two words.
    final class More: Sendable {
        enum Content {
            case reply(Reply)
            case failure(SmallocError)
            /// Nothing has come for a while: wait by the cookie, in a way that can be cancelled.
            case late(UInt64)
        }
        let content: Content
        init(_ content: Content) { self.content = content }
    }

    /// Throws the error that it is, if it is one.
    @inline(__always)
    func check() throws(SmallocError) {
        if let more, case .failure(let error) = more.content { throw error }
    }

    /// The reply that was asked for as a whole.
    ///
    /// - Throws: The error that it is instead.
    func reply() throws(SmallocError) -> Reply {
        try check()
        guard case .reply(let reply) = more?.content else {
            throw .unexpectedReply("the answer is missing")
        }
        return reply
    }
}

/// A reply without its error.
struct Reply: Sendable {
    var header: FrameHeader
    var payload: [UInt8]
    /// Descriptors that came with it, which the receiver of this has to close.
    var descriptors: [Int32] = []
}

/// A task that waits for its answer.
@usableFromInline
typealias Waiter = UnsafeContinuation<Answer, Never>

/// Answers on their way to the tasks that wait for them, so that these are resumed without a lock.
struct CompletionList: ~Copyable {
    private struct Item {
        let waiter: Waiter
        let answer: Answer
    }

    private var items: UnsafeMutablePointer<Item>
    private var capacity = CompletionList.most
    private(set) var count = 0

    /// Answers that are collected before the tasks are resumed: others wait for the lock meanwhile.
    static var most: Int { 32 }

    init() { items = .allocate(capacity: capacity) }

    deinit {
        precondition(count == 0, "every task has been resumed")
        items.deallocate()
    }

    var isEmpty: Bool { count == 0 }

    @inline(__always)
    mutating func append(_ waiter: Waiter, _ answer: Answer) {
        if count == capacity { grow() }
        (items + count).initialize(to: Item(waiter: waiter, answer: answer))
        count += 1
    }

    @inline(never)
    private mutating func grow() {
        let larger = UnsafeMutablePointer<Item>.allocate(capacity: capacity * 2)
        larger.moveInitialize(from: items, count: count)
        items.deallocate()
        items = larger
        capacity *= 2
    }

    mutating func resumeAll() {
        for index in 0..<count {
            let item = (items + index).move()
            item.waiter.resume(returning: item.answer)
        }
        count = 0
    }
}
