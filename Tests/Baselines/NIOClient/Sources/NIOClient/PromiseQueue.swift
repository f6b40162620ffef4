// How the Redis clients on SwiftNIO pair replies with who waits for them: in the order of requests.

import NIOCore

/// Encodes nothing, decodes bulk strings of RESP, and completes promises in the order of requests.
final class PromiseQueue: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = (ByteBuffer, EventLoopPromise<ByteBuffer>)
    typealias OutboundOut = ByteBuffer

    private var waiting = CircularBuffer<EventLoopPromise<ByteBuffer>>()
    private var input = ByteBuffer()

    func write(
        context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?
    ) {
        let (request, answer) = unwrapOutboundIn(data)
        waiting.append(answer)
        context.write(wrapOutboundOut(request), promise: promise)
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var bytes = unwrapInboundIn(data)
        input.writeBuffer(&bytes)
        while let reply = nextReply() { waiting.removeFirst().succeed(reply) }
        input.discardReadBytes()
    }

    func channelInactive(context: ChannelHandlerContext) {
        for promise in waiting { promise.fail(ChannelError.eof) }
        waiting.removeAll()
        context.fireChannelInactive()
    }

    /// `+OK` as an empty buffer, `$64` and its bytes as them; nil if it has not come whole.
    private func nextReply() -> ByteBuffer? {
        let view = input.readableBytesView
        guard let first = view.first, let end = view.firstIndex(of: 0x0D), end + 1 < view.endIndex
        else { return nil }
        guard first == UInt8(ascii: "$") else {
            input.moveReaderIndex(to: end + 2)
            return ByteBuffer()
        }
        let size = view[(view.startIndex + 1)..<end].reduce(0) { $0 * 10 + Int($1 - 0x30) }
        guard view.endIndex >= end + 2 + size + 2 else { return nil }
        input.moveReaderIndex(to: end + 2)
        let bytes = input.readSlice(length: size)
        input.moveReaderIndex(forwardBy: 2)
        return bytes
    }
}
