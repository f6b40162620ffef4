import SmallocWire
import Testing
import TestSupport

@Suite("Lines to requests", .timed)
struct TextCodecTests {
    /// The request in words, or the status and message of the refusal.
    private func parse(_ line: String) -> String {
        withSpan(line) { line in
            var format = TextFormat.base64
            do throws(SmallocError) {
                let request = try TextCodec.parse(line, format: &format)
                let shown = format == .numbers ? "" : " as \(format)"
                return describe(request) + shown
            } catch {
                return error.status.name
            }
        }
    }

    static let requests: [(String, String)] = [
        ("alloc a 4", "alloc 'a' type 2 '' length 4 elements flags 2"),
        ("alloc a 4 Double", "alloc 'a' type 8 'Double' length 4 elements flags 2"),
        ("alloc a 4 uint8CLAMPED", "alloc 'a' type 9 'uint8CLAMPED' length 4 elements flags 2"),
        ("alloc a 4 7", "alloc 'a' type 7 '7' length 4 elements flags 2"),
        ("alloc a 4 foo", "alloc 'a' type 0 'foo' length 4 elements flags 2"),
        (
            "alloc a 4 Double meta=x  shape=?",
            "alloc 'a' type 8 'Double' length 4 elements flags 34 "
                + "words ' meta=x  shape=?'"
        ),
        ("alloc a -1", "alloc 'a' type 2 '' length \(UInt64.max) elements flags 2"),
        ("write a 0 1 2 3", "write 'a' from 0 words ' 1 2 3' elements"),
        ("write a 2 text: b  c ", "write 'a' from 2 words ' text: b  c ' elements"),
        ("read a", "read 'a' from 0 count all elements"),
        ("read a 3", "read 'a' from 3 count all elements"),
        ("read a 3 2", "read 'a' from 3 count 2 elements"),
        ("read a 3 2 hex", "read 'a' from 3 count 2 elements as hex"),
        ("read a 3 2 Base64", "read 'a' from 3 count 2 elements as base64"),
        ("read a 3 2 NUMBERS", "read 'a' from 3 count 2 elements"),
        ("read a -1", "read 'a' from \(UInt64.max) count all elements"),
        ("fill a 1 2 0.5", "fill 'a' from 1 count 2 words ' 0.5' elements"),
        ("fill a 0 4 1 2", "fill 'a' from 0 count 4 words ' 1 2' elements"),
        ("fill a 1 2 text:a b", "fill 'a' from 1 count 2 words ' text:a b' elements"),
        ("copy b 2 a 0 2", "copy 'b' from 2 to 'a' at 0 count 2 elements"),
        ("dispose a", "dispose 'a'"), ("truncate a 3", "truncate 'a' to 3 elements"),
        ("rename a b", "rename 'a' to 'b'"), ("stat a", "stat 'a'"),
        ("list", "list '' cursor 0 count 0 sorted true"),
        ("list cam/", "list 'cam/' cursor 0 count 0 sorted true"),
        ("watch 0", "watch '' from 0 for 0"),
        ("watch 7 cam/", "watch 'cam/' from 7 for 0"),
        ("watch 7 wait=20", "watch '' from 7 for 20"),
        ("Watch -1 cam/ WAIT=-1", "watch 'cam/' from \(UInt64.max) for \(UInt64.max)"),
        ("watch 0 wait=a wait=2", "watch 'wait=a' from 0 for 2"),
        ("clients", "clients from 0 count 0"), ("slowlog 9", "slowlog 9"),
        ("slowlog", "slowlog \(UInt64.max)"), ("ping", "ping"), ("stats", "stats"),
        ("quit", "quit"), ("help", "help ''"),
        ("help READ", "help 'READ'"),
        ("\t PiNg \t", "ping"), ("DISPOSE\ta", "dispose 'a'"),
        (
            "Copy b 2\ta 0 2 ",
            "copy 'b' from 2 to 'a' at 0 count 2 elements"
        ),
        ("dispose PING", "dispose 'PING'"),
        ("read \u{1b}[31m", "read '\u{1b}[31m' from 0 count all elements"),
    ]

    @Test("each verb becomes its request", arguments: requests)
    func parses(_ example: (line: String, request: String)) {
        #expect(parse(example.line) == example.request)
    }

    @Test(
        "missing, superfluous and malformed words are invalid arguments",
        arguments: [
            "alloc", "alloc a", "alloc a 1 Uint8 x", "alloc a 1 Uint8 shape",
            "alloc a 1 Uint8 shape=1 shape=1",
            "alloc a 1 Uint8 meta= shape=1 meta=", "alloc a 1 Uint8 shape=1 x", "alloc a 1.0",
            "alloc a 1e3", "alloc a NaN",
            "alloc a four", "write", "write a", "write a 0", "write a 0  \t", "write a x 1",
            "write a 0.5 1", "read", "read a x", "read a 1.5", "read a 0 x", "read a 0 1 octal",
            "read a 0 1 hex x", "read a hex", "fill", "fill a", "fill a 0", "fill a 0 1",
            "fill a 0 1 ", "fill a x 1 1", "fill a 0 x 1",
            "copy", "copy a", "copy a 0", "copy a 0 b", "copy a 0 b 0", "copy a 0 b 0 1 x",
            "copy a x b 0 1", "copy a 0 b x 1", "copy a 0 b 0 x", "dispose", "dispose a b",
            "truncate", "truncate a", "truncate a 1 2", "truncate a -", "rename", "rename a",
            "rename a b c", "rename a b replaced", "rename a b replace x", "rename replace", "stat",
            "stat a b", "list a b", "ping x", "stats x", "quit now",
            "wait", "wait a", "wait a 0", "wait a 0 1", "wait a x 1 1", "wait a 0 1 x",
            "wait a 0 1 1 1", "notify", "notify a", "notify a x", "notify a 0 x", "notify a 0 1 1",
            "atomic", "atomic a", "atomic a 0", "atomic a x load", "atomic a 0 load 1",
            "atomic a 0 add", "atomic a 0 add 1 2", "atomic a 0 compareExchange 1",
            "atomic a 0 compareExchange 1 2 3", "atomic a 0 cas 1 2", "atomic a 0 1",
            "watch", "watch x", "watch 0 a 20", "watch 0 a wait=1 x", "watch 0 wait=",
            "watch 0 wait=x",
            "watch 0 a wait=1.5", "help a b",
        ])
    func refuses(_ line: String) { #expect(parse(line) == "invalidArgument") }

    @Test("an integer too large or negative is well formed, and says so by being the largest")
    func saturates() {
        let huge = "99999999999999999999999999999999999999"
        #expect(parse("truncate a \(huge)") == "truncate 'a' to \(UInt64.max) elements")
        #expect(parse("read a 0 -5") == "read 'a' from 0 count \(UInt64.max) elements")
        #expect(
            parse("copy a \(huge) b -1 \(huge)")
                == "copy 'a' from \(UInt64.max) to 'b' at \(UInt64.max) count \(UInt64.max)"
                + " elements")
    }

    @Test(
        "unknown verbs are unknown operations",
        arguments: [
            "hello", "open a", "close 1", "cancel 1", "frobnicate", "allocate a 4", "pin", "pings",
            "reads a",
            "x", "abcdefghijklmnopqrstuvwxyz", "p\u{131}ng", "status", "GETTING /",
        ])
    func unknown(_ line: String) { #expect(parse(line) == "unknownOperation") }

    @Test(
        "lines of other protocols are told apart, in any case",
        arguments: [
            "GET / HTTP/1.1", "get /", "Head / HTTP/1.0", "POST /x HTTP/1.1", "PUT / HTTP/1.1",
            "DELETE / HTTP/1.1", "CONNECT host:443 HTTP/1.1", "OPTIONS * HTTP/1.1",
            "TRACE / HTTP/1.1", "PATCH / HTTP/1.1", "PRI * HTTP/2.0", "Host: localhost",
            "EHLO a", "HELO a", "STARTTLS", "SSH-2.0-OpenSSH_9.2p1 Debian-2", "ssh-1.99-x",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2", "USER a", "AUTH x",
            "CONFIG GET *", "EVAL x 0", "set a 0 0 1", "gets a", "add a 0 0 1", "replace a 0 0 1",
            "append a 0 0 1", "prepend a 0 0 1", "cas a 0 0 1 1", "incr a 1", "decr a 1",
            "touch a 1", "version", "verbosity 1", "flush_all", "mg a", "ms a 1", "md a", "mn",
            "*1", "$4", "+OK", "-ERR", ":1", "\u{0}\u{1}", "{}", "<xml>", "1", "{\"a\":1}", "é",
            "\u{1}\u{2}\u{3}",
        ])
    func foreign(_ line: String) { #expect(parse(line) == "notSmalloc") }

    @Test("own verbs are never taken for those of others")
    func own() {
        for verb in [
            "alloc", "write", "read", "fill", "copy", "dispose", "truncate", "rename", "stat",
            "list", "ping", "stats", "help", "quit", "atomic",
            "wait", "notify", "watch", "clients", "slowlog",
        ] {
            #expect(parse(verb) != "notSmalloc")
            #expect(parse(verb.uppercased() + " HTTP/1.1") != "notSmalloc")
        }
    }
}
