// Making a link, and one call on it from a task.

internal import Glibc
internal import SmallocWire
internal import Synchronization

extension AsyncConnection {
    /// Bytes that follow a header.
    enum Body {
        case bytes([UInt8])
        case number(UInt64, size: Int)

        func withBytes<R>(_ body: (UnsafeRawBufferPointer) throws(SmallocError) -> R)
            throws(SmallocError) -> R
        {
            switch self {
            case .bytes(let array):
                try array.span.withUnsafeBytes { bytes throws(SmallocError) in try body(bytes) }
            case .number(let number, let size):
                try withUnsafeBytes(of: number) { bytes throws(SmallocError) in
                    try body(UnsafeRawBufferPointer(rebasing: bytes[..<size]))
                }
            }
        }
    }
}

/// A reply without its error.
struct AsyncReply: Sendable {
    var header: FrameHeader
    var small: UInt64
    var bytes: [UInt8]

    /// The payload, however small.
    var payload: [UInt8] {
        let size = Int(header.payloadSize)
        guard size <= 8 else { return bytes }
        return withUnsafeBytes(of: small) { Array($0[..<size]) }
    }

    /// The payload as so many elements, which it has.
    ///
    /// Specialised by hand: the public generic functions that call it can't be, and making an array
    /// of a type that is known only at run time takes a thousand instructions.
    @_specialize(where Element == Double)
    @_specialize(where Element == Float)
    @_specialize(where Element == Int32)
    @_specialize(where Element == UInt8)
    func elements<Element: BitwiseCopyable>(_ element: Element.Type, _ count: Int) -> [Element] {
        [Element](unsafeUninitializedCapacity: count) { memory, initialized in
            let target = UnsafeMutableRawBufferPointer(memory)
            if header.payloadSize <= 8 {
                withUnsafeBytes(of: small) {
                    target.copyMemory(
                        from: UnsafeRawBufferPointer(rebasing: $0[..<Int(header.payloadSize)]))
                }
            } else {
                bytes.withUnsafeBytes { target.copyMemory(from: $0) }
            }
            initialized = count
        }
    }
}

extension Link {
    /// Connects and exchanges greetings, blocking.
    static func connect(
        _ address: Address, _ options: ConnectionOptions, _ executor: ConnectionExecutor
    ) throws(SmallocError) -> Link {
        guard executor.wakeDescriptor >= 0 else {
            throw .cannotConnect("no descriptor to wake a thread by")
        }
        let limit = options.connectTimeout.nanosecondsClamped
        let socket = try Socket(connectingTo: address, timeout: limit)
        // The blocking channel greets on a descriptor of its own for the same socket.
        let copy = fcntl(socket.descriptor, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .cannotConnect(systemMessage(errno)) }
        var channel = Channel(Socket(owning: copy), timeout: limit)
        let limits = try channel.greet(options.software)
        socket.setTimeouts(nanoseconds: .max)
        socket.setUserTimeout(nanoseconds: options.requestTimeout?.nanosecondsClamped ?? .max)
        return Link(socket, limits, options, executor)
    }

    /// Asks and waits for the answer.
    ///
    /// Cancelling the task ends the waiting, not the request.
    func call(
        _ request: Request, body: AsyncConnection.Body? = nil, remote: AsyncRemote? = nil
    ) async throws(SmallocError) -> AsyncReply {
        // 0: not asked yet; .max: cancelled before that; else the cookie.
        let asked = Atomic<UInt64>(0)
        let body = body ?? .bytes(request.body)
        let outcome = await withTaskCancellationHandler {
            await withUnsafeContinuation { (waiter: Waiter) in
                do throws(SmallocError) {
                    _ = try body.withBytes { bytes throws(SmallocError) in
                        try start(
                            Ask(
                                header: request.header, body: bytes,
                                extraTime: request.extraTime, remote: remote),
                            waiter: waiter,
                            announce: {
                                asked.compareExchange(
                                    expected: 0, desired: $0, ordering: .acquiringAndReleasing
                                ).exchanged
                            })
                    }
                } catch {
                    waiter.resume(returning: .failure(error))
                }
            }
        } onCancel: {
            let cookie = asked.exchange(.max, ordering: .acquiringAndReleasing)
            if cookie != 0, cookie != .max { cancel(cookie) }
        }
        _ = handovers.load(ordering: .acquiring)
        switch outcome {
        case .reply(let header, let small, let bytes):
            return AsyncReply(header: header, small: small, bytes: bytes)
        case .failure(let error):
            // Somebody else disposed of it: the handle is still open, and of no use any more.
            if error.status == .noData, request.header.operation == Operation.dispose.rawValue,
                asked.load(ordering: .relaxed) != 0, let remote
            {
                forget(Request.close(remote.handle).header)
            }
            throw error
        }
    }
}
