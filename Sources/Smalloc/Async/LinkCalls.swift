// Making a link, and one call on it from a task.

internal import Glibc
internal import SmallocWire

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
        _ request: Request, remote: AsyncRemote? = nil
    ) async throws(SmallocError) -> AsyncReply {
        var asked = false
        do throws(SmallocError) {
            let answer = try await answer { waiter in
                request.body.withUnsafeBytes { bytes in
                    asked = ask(
                        request.header, bytes, extraTime: request.extraTime, remote, waiter)
                }
            }
            guard case .reply(let reply) = answer.more?.content else {
                throw .unexpectedReply("the answer is missing")
            }
            return reply
        } catch {
            // Somebody else disposed of it: the handle is still open, and of no use any more.
            if asked, error.status == .noData, let remote,
                request.header.operation == Operation.dispose.rawValue
            {
                forget(Request.close(remote.handle).header)
            }
            throw error
        }
    }

    /// Asks for a payload of exactly so many bytes, and waits for it.
    ///
    /// - Parameter room: Memory for them; nil for into the answer's number, if they are at most 8.
    /// - Returns: The payload as a number, if no room was given.
    @inline(__always)
    func payload(
        _ header: FrameHeader, size: Int, into room: UnsafeMutableRawPointer? = nil,
        _ remote: AsyncRemote
    ) async throws(SmallocError) -> UInt64 {
        try await answer { waiter in
            ask(
                header, UnsafeRawBufferPointer(start: nil, count: 0), size: size, room: room,
                remote, waiter)
        }.number
    }
}
