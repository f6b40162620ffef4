import Glibc

/// Requests that leave together, and what must come back for them, both ready to the last byte.
///
/// Every protocol comes down to this, so all of them are sent, received and checked by the same
/// code. Plain memory: whoever rendered it keeps its arena.
struct Batch {
    let request: UnsafeMutablePointer<iovec>
    let requestCount: Int
    let reply: UnsafeMutablePointer<iovec>
    let replyCount: Int
    let cookies: UnsafeMutablePointer<CookiePlace>
    let cookieCount: Int
    /// Jobs that are done when this batch is answered; 0 if the next batch is part of the job.
    let jobs: Int

    /// Where a request and its reply carry the same 64-bit number.
    struct CookiePlace {
        let request: UnsafeMutableRawPointer
        let reply: UnsafeMutableRawPointer
    }

    /// Writes new cookies into the requests and the expected replies: `first` and those after it.
    @inline(__always)
    func number(from first: UInt64) {
        for index in 0..<cookieCount {
            let cookie = (first &+ UInt64(truncatingIfNeeded: index)).littleEndian
            cookies[index].request.storeBytes(of: cookie, as: UInt64.self)
            cookies[index].reply.storeBytes(of: cookie, as: UInt64.self)
        }
    }
}

/// Memory that is freed all at once.
final class Arena {
    private var blocks: [UnsafeMutableRawPointer] = []
    private var free: UnsafeMutableRawPointer?
    private var room = 0

    deinit { for block in blocks { block.deallocate() } }

    func allocate(_ size: Int) -> UnsafeMutableRawPointer {
        let rounded = (size + 63) & ~63
        if rounded > room {
            room = max(rounded, 1 << 20)
            let block = UnsafeMutableRawPointer.allocate(byteCount: room, alignment: 64)
            blocks.append(block)
            free = block
        }
        guard let start = free else { fatalError("an arena has a block once it has room") }
        free = start + rounded
        room -= rounded
        return start
    }

    func allocate<Element>(_ type: Element.Type, count: Int) -> UnsafeMutablePointer<Element> {
        allocate(max(1, count) * MemoryLayout<Element>.stride).bindMemory(
            to: type, capacity: max(1, count))
    }
}

/// Renders a batch.
struct BatchBuilder: ~Copyable {
    /// One direction: bytes, with large contents spliced in.
    struct Side: ~Copyable {
        var bytes = ByteBuilder()
        fileprivate var splices: [(at: Int, content: Pattern.Content)] = []

        /// Contents up to this size are copied among the other bytes.
        private static let inlineSizeMax = 16 << 10

        mutating func append(_ content: Pattern.Content, of pattern: Pattern) {
            guard content.size <= Self.inlineSizeMax else {
                splices.append((bytes.count, content))
                return
            }
            var offset = 0
            while offset < content.size {
                let piece = pattern.piece(of: content, at: offset)
                guard let source = piece.baseAddress else { return }
                bytes.extend(by: piece.count).copyMemory(from: source, byteCount: piece.count)
                offset += piece.count
            }
        }

        fileprivate mutating func removeAll() {
            bytes.removeAll()
            splices.removeAll(keepingCapacity: true)
        }

        fileprivate func finish(
            _ pattern: Pattern, in arena: Arena, copied: UnsafeMutableRawPointer
        ) -> (UnsafeMutablePointer<iovec>, Int) {
            var pieces: [iovec] = []
            var done = 0
            func bytes(upTo end: Int) {
                if end > done { pieces.append(iovec(iov_base: copied + done, iov_len: end - done)) }
                done = end
            }
            for splice in splices {
                bytes(upTo: splice.at)
                var offset = 0
                while offset < splice.content.size {
                    let piece = pattern.piece(of: splice.content, at: offset)
                    pieces.append(iovec(iov_base: piece.baseAddress, iov_len: piece.count))
                    offset += piece.count
                }
            }
            bytes(upTo: self.bytes.count)
            let vector = arena.allocate(iovec.self, count: pieces.count)
            for (index, piece) in pieces.enumerated() { vector[index] = piece }
            return (vector, pieces.count)
        }
    }

    var request = Side()
    var reply = Side()
    let pattern: Pattern
    private var cookies: [(request: Int, reply: Int)] = []

    init(_ pattern: Pattern) { self.pattern = pattern }

    /// Says that the next request and reply carry a cookie, so far into each.
    mutating func cookie(at offset: Int) {
        cookies.append((request.bytes.count + offset, reply.bytes.count + offset))
    }

    mutating func removeAll() {
        request.removeAll()
        reply.removeAll()
        cookies.removeAll(keepingCapacity: true)
    }

    /// The batch so far, copied into `arena`; large contents stay in the pattern.
    func finish(jobs: Int, in arena: Arena) -> Batch {
        let sent = arena.allocate(request.bytes.count)
        sent.copyMemory(from: request.bytes.base, byteCount: request.bytes.count)
        let expected = arena.allocate(reply.bytes.count)
        expected.copyMemory(from: reply.bytes.base, byteCount: reply.bytes.count)
        let (requestVector, requestCount) = request.finish(pattern, in: arena, copied: sent)
        let (replyVector, replyCount) = reply.finish(pattern, in: arena, copied: expected)
        let places = arena.allocate(Batch.CookiePlace.self, count: cookies.count)
        for (index, cookie) in cookies.enumerated() {
            places[index] = .init(request: sent + cookie.request, reply: expected + cookie.reply)
        }
        return Batch(
            request: requestVector, requestCount: requestCount, reply: replyVector,
            replyCount: replyCount, cookies: places, cookieCount: cookies.count, jobs: jobs)
    }
}
