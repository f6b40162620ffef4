// One element that is changed atomically or waited on: what both faces ask for about it.

internal import SmallocWire

/// The payload of an `atomic` request.
struct AtomicBody {
    // As they lie on the wire.
    private let words: (action: UInt64, operand: UInt64, expected: UInt64)

    init(_ action: AtomicAction, _ operand: UInt64 = 0, _ expected: UInt64 = 0) {
        words = (UInt64(action.rawValue).littleEndian, operand.littleEndian, expected.littleEndian)
    }

    func withBytes<Result>(_ body: (UnsafeRawBufferPointer) -> Result) -> Result {
        withUnsafeBytes(of: words) { body($0) }
    }
}

extension View {
    /// The header of an `atomic` request on an element.
    func atomicHeader<Value: Smalloc.Element>(
        _ index: Int, _ value: Value.Type
    ) throws(SmallocError) -> FrameHeader {
        try type.check(value)
        return .access(.atomic, remote.handle, offset: try window.resolve(index, 1).offset, size: 0)
    }

    /// - Parameter timeout: Rounded up to milliseconds; nil is for ever.
    func waitRequest<Value: Smalloc.Element & FixedWidthInteger>(
        _ index: Int, _ value: Value, _ timeout: Duration?
    ) throws(SmallocError) -> Request {
        try type.check(Value.self)
        return .wait(
            remote.handle, offset: try window.resolve(index, 1).offset,
            value: UInt32(truncatingIfNeeded: value), milliseconds: Request.milliseconds(timeout))
    }

    /// - Parameter count: nil for all.
    func notifyRequest(_ index: Int, _ count: Int?) throws(SmallocError) -> Request {
        let count = count.map { UInt64(clamping: $0) } ?? .max
        return .notify(remote.handle, offset: try window.resolve(index, 1).offset, count: count)
    }
}

extension WaitResult {
    /// What the reply to a wait says.
    init(_ reply: Reply) throws(SmallocError) {
        guard let result = WaitResult(rawValue: reply.header.size) else {
            throw .unexpectedReply("a wait has the result \(reply.header.size)")
        }
        self = result
    }
}
