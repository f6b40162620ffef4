// Whole conversations as bytes, to be cut up in different ways.

import SmallocWire
import TestSupport

/// Requests that between them take every way through a session.
enum Scripts {
    /// All operations and the main errors, none of them large.
    static var smallFrames: [UInt8] {
        var bytes = frame(.hello, cookie: 1, payload: Array("tests".utf8))
        bytes += frame(.ping, cookie: 2)
        bytes += frame(.alloc, type: 2, cookie: 3, name: "a", size: 64)
        bytes += frame(.alloc, flags: 2, type: 8, cookie: 4, name: "doubles", size: 64)
        bytes += frame(.alloc, type: 4, cookie: 5, size: 32)
        bytes += frame(.write, cookie: 6, handle: 1, offset: 3, size: 5, payload: [1, 2, 3, 4, 5])
        bytes += frame(.write, cookie: 7, name: "doubles", size: 0)
        bytes += frame(
            .write, flags: 1, cookie: 8, handle: 1, size: 2,
            payload: numbers(10, 2, 20, 1) + [7, 8, 9])
        bytes += frame(.fill, cookie: 9, handle: 2, offset: 2, size: 6, payload: [0xE5, 1, 8])
        bytes += frame(.copy, cookie: 10, handle: 1, size: 8, payload: copyDest(8, name: "doubles"))
        bytes += frame(.read, cookie: 11, handle: 1, size: 64)
        bytes += frame(.read, cookie: 12, name: "doubles", offset: 60, size: 5)
        bytes += frame(
            .read, flags: 1, cookie: 13, name: "a", size: 2, payload: numbers(3, 5, 20, 1))
        bytes += frame(.open, cookie: 14, name: "doubles")
        bytes += frame(.truncate, cookie: 15, handle: 3, size: 16)
        bytes += frame(.rename, cookie: 16, handle: 2, payload: Array("named".utf8))
        bytes += frame(.list, cookie: 17, name: "na")
        bytes += frame(.close, cookie: 18, handle: 2)
        bytes += frame(.close, cookie: 19, handle: 2)
        bytes += frame(.read, cookie: 20, name: "named", size: 32)
        bytes += frame(.dispose, cookie: 21, name: "named")
        bytes += frame(.dispose, cookie: 22, handle: 3)
        bytes += frame(.read, cookie: 23, handle: 1, offset: 65, size: 1, payload: [1, 2, 3])
        bytes +=
            [0xE5, 1, 99, 0, 0, 0, 0, 0, 24] + [UInt8](repeating: 0, count: 11)
            + [7, 0, 0, 0] + [UInt8](repeating: 0, count: 16) + [0xE5, 0xE5, 0xE5, 0, 0, 0, 0]
        bytes += frame(.quit, cookie: 25)
        return bytes
    }

    /// Large writes and reads, refused ones, vectored ones, work for other threads.
    static var largeFrames: [UInt8] {
        var random = SplitMix(seed: 7)
        var bytes = frame(.hello, cookie: 1)
        bytes += frame(.alloc, type: 2, cookie: 2, name: "a", size: 1_200_000)
        bytes += frame(.alloc, type: 2, cookie: 3, name: "b", size: 1_200_000)
        for size in [65_536, 65_537, 100_001] {
            bytes += frame(
                .write, cookie: 4, handle: 1, offset: 5, size: UInt64(size),
                payload: random.bytes(size))
            bytes += frame(
                .write, cookie: 5, name: "a", offset: 300_000, size: UInt64(size),
                payload: random.bytes(size))
            bytes += frame(.read, cookie: 6, handle: 1, offset: 1, size: UInt64(size))
        }
        bytes += frame(
            .write, flags: 1, cookie: 7, name: "b", size: 4,
            payload: numbers(100, 40_000, 7, 0, 50_000, 1, 50_001, 60_000) + random.bytes(100_001))
        bytes += frame(
            .write, flags: 1, cookie: 8, handle: 2, size: 2,
            payload: numbers(0, 40_000, 1_199_999, 60_000) + random.bytes(100_000))
        bytes += frame(.write, cookie: 9, name: "none", size: 70_000, payload: random.bytes(70_000))
        bytes += frame(
            .write, cookie: 10, handle: 2, offset: 1_150_000, size: 70_000,
            payload: random.bytes(70_000))
        bytes += frame(.write, cookie: 11, handle: 2, size: 69_999, payload: random.bytes(70_000))
        bytes += frame(
            .read, flags: 1, cookie: 12, handle: 2, size: 3,
            payload: numbers(0, 50_000, 9, 0, 40_000, 70_000))
        bytes += frame(
            .copy, cookie: 13, handle: 1, size: 1_200_000, payload: copyDest(0, handle: 2))
        bytes += frame(
            .copy, cookie: 14, handle: 2, size: 1_150_000, payload: copyDest(50_000, name: "b"))
        bytes += frame(.fill, cookie: 15, handle: 1, size: 1_199_997, payload: [1, 2, 3])
        bytes += frame(.read, cookie: 16, handle: 1, offset: 1_100_000, size: 100_000)
        bytes += frame(.read, cookie: 17, handle: 2, offset: 0, size: 1_200_000)
        bytes += frame(.quit, cookie: 18)
        return bytes
    }

    /// All verbs and the main errors, with both line ends and a last line without one, which is refused.
    static let smallText = """
        alloc a 8\r
        alloc d 4 Double
        write a 0 1 2 hex:0304 base64:BQY= 7 8

        write d 0 0.1 -0 NaN 1e300
        read a\r
        read d 0 4
        read d 1 2 hex
        \t copy a 2 a 0 6
        fill a 6 2 text:x
        read a 0 8 base64
        fill a 0 9 1
        truncate a 4
        rename a bb
        read bb
        list
        list b
        read nothing
        alloc bb 1
        alloc c -1
        alloc c 1 foo
        frobnicate
        dispose bb
        dispose bb
        help ping
        ping\r\n\r\n  \r
        read d 0 4
        """
}

/// What comes out of a fresh daemon when `bytes` go in, cut up as `sizes` says.
func answer(
    to bytes: [UInt8], ended: Bool = false, receivesDirectly: Bool = true,
    daemon: TestDaemon = TestDaemon(), in sizes: (() -> Int)? = nil
) -> [UInt8] {
    let peer = daemon.connect()
    peer.receivesDirectly = receivesDirectly
    if let sizes { peer.feed(bytes, in: sizes) } else { peer.feed(bytes) }
    if ended { peer.feedEnd() }
    return peer.output
}
