// A connection that sends any number of requests while it counts the replies.

import Glibc

/// One connection on which requests leave while replies arrive, as a client does that pipelines.
///
/// Replies are counted and not compared: it is for work whose replies vary. An error is thrown.
final class Conversation {
    private let wire: Wire
    private var replies: ReplyCounter
    private let buffer: UnsafeMutableRawPointer
    private static let bufferSize = 256 << 10
    /// A conversation that makes no progress for so long has failed, in milliseconds.
    private static let patience: Int32 = 60_000

    /// Connects, and greets where it speaks in frames.
    init(to address: Address, isText: Bool = false) throws {
        wire = try Wire(to: address, speaking: SmallocDialect(), greeting: !isText)
        replies = ReplyCounter(isText: isText)
        buffer = .allocate(byteCount: Self.bufferSize, alignment: 4096)
    }

    deinit { buffer.deallocate() }

    /// Opens targets on this connection, which gives them handles.
    func open(_ targets: [Target]) throws -> [Target] { try wire.open(targets) }

    /// Sends what `render` appends, and returns when `count` replies have come.
    func ask(replies count: Int, _ render: (inout ByteBuilder) -> Void) throws {
        var bytes = ByteBuilder()
        render(&bytes)
        try ask(bytes, replies: count)
    }

    /// Sends requests, and returns when `count` replies have come.
    func ask(_ requests: borrowing ByteBuilder, replies count: Int) throws {
        var sent = 0
        let awaited = replies.count + count
        while sent < requests.count || replies.count < awaited {
            var waiting = pollfd(fd: wire.fd, events: Int16(POLLIN), revents: 0)
            if sent < requests.count { waiting.events |= Int16(POLLOUT) }
            guard poll(&waiting, 1, Self.patience) > 0 else {
                throw BenchError.timeout("\(awaited - replies.count) replies")
            }
            if waiting.revents & Int16(POLLIN | POLLHUP | POLLERR) != 0 {
                let received = recv(wire.fd, buffer, Self.bufferSize, Int32(MSG_DONTWAIT))
                guard received != 0 else { throw BenchError.closed }
                guard received > 0 || errno == EAGAIN else { throw BenchError.last("recv") }
                let came = UnsafeRawBufferPointer(start: buffer, count: max(0, received))
                try replies.take(came)
            }
            if waiting.revents & Int16(POLLOUT) != 0 {
                let count = Glibc.send(
                    wire.fd, requests.base + sent, requests.count - sent,
                    Int32(MSG_DONTWAIT))
                guard count >= 0 || errno == EAGAIN else { throw BenchError.last("send") }
                sent += max(0, count)
            }
        }
    }

    /// What the last reply carried in its offset: the cursor of the next page of a list.
    var cursor: Int { replies.offset }
}

/// Finds the ends of replies in what arrives, in pieces of any size.
struct ReplyCounter {
    private let isText: Bool
    private(set) var count = 0
    /// The last frame's offset.
    private(set) var offset = 0
    /// The header so far, or the beginning of the line.
    private var head: [UInt8] = []
    /// Bytes of the payload that are still to come.
    private var left = 0

    init(isText: Bool) { self.isText = isText }

    /// - Throws: `BenchError.setup` for an error, and for what is no reply.
    mutating func take(_ bytes: UnsafeRawBufferPointer) throws {
        if isText { try takeLines(bytes) } else { try takeFrames(bytes) }
    }

    private mutating func takeFrames(_ bytes: UnsafeRawBufferPointer) throws {
        var at = 0
        while at < bytes.count {
            if left > 0 {
                let skipped = min(left, bytes.count - at)
                left -= skipped
                at += skipped
            } else {
                let more = min(SmallocDialect.headerSize - head.count, bytes.count - at)
                head += bytes[at..<at + more]
                at += more
                guard head.count == SmallocDialect.headerSize else { return }
                try takeHeader()
            }
            if left == 0 { count += 1 }
        }
    }

    private mutating func takeHeader() throws {
        try head.withUnsafeBytes { header in
            let status = header.loadUnaligned(fromByteOffset: 4, as: UInt16.self)
            guard header[0] == 0xe6, status == 0 else {
                throw BenchError.setup("operation \(header[2]) was answered with \(status)")
            }
            left = Int(header.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
            offset = Int(
                truncatingIfNeeded: header.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        }
        head.removeAll(keepingCapacity: true)
    }

    private mutating func takeLines(_ bytes: UnsafeRawBufferPointer) throws {
        var at = 0
        while at < bytes.count, let base = bytes.baseAddress {
            let found = memchr(base + at, 0x0a, bytes.count - at)
            let end = found.map { UnsafeRawPointer($0) - base } ?? bytes.count
            head += bytes[at..<min(end, at + Self.headSizeMax - head.count)]
            at = end + 1
            guard found != nil else { return }
            if head.starts(with: "ERR".utf8) {
                throw BenchError.setup(String(decoding: head, as: UTF8.self))
            }
            if head.starts(with: "OK".utf8) { count += 1 }
            head.removeAll(keepingCapacity: true)
        }
    }

    /// Bytes of a line that are looked at: the word that it begins with, and what an error says.
    private static let headSizeMax = 80
}
