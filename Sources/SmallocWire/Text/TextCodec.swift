// Lines to requests: the grammar of text mode. protocol/spec.md § Text mode is the source.

/// Reads requests from lines of text.
public enum TextCodec {
    /// Reads one line without its end.
    ///
    /// Numbers count elements.
    ///
    /// - Parameters:
    ///   - line: A verb and what it takes; not empty.
    ///   - format: How a `read` wants its data shown; `.numbers` after any other verb.
    /// - Throws: `.unknownOperation` for an unknown verb, `.notSmalloc` for a line of HTTP,
    ///   `.invalidArgument` for a missing, superfluous or malformed word.
    @_lifetime(copy line)
    public static func parse(
        _ line: RawSpan, format: inout TextFormat
    ) throws(SmallocError) -> Request {
        format = .numbers
        var words = Words(line)
        let verb = words.next()
        let operation = verb.byteCount <= 16 ? verb.text.lowercased() : ""
        switch operation {
        case "alloc": return try alloc(&words)
        case "write":
            let name = try word(&words, "write NAME START VALUE...")
            let start = try index(&words, "write NAME START VALUE...")
            guard !words.isAtEnd else { throw usage("write NAME START VALUE...") }
            return .write(
                Reference(handle: 0, name: name), start: start, .words(words.rest), .elements)
        case "read":
            return try read(&words, format: &format)
        case "fill":
            let name = try word(&words, "fill NAME START COUNT VALUE...")
            let start = try index(&words, "fill NAME START COUNT VALUE...")
            let count = try index(&words, "fill NAME START COUNT VALUE...")
            guard !words.isAtEnd else { throw usage("fill NAME START COUNT VALUE...") }
            return .fill(
                Reference(handle: 0, name: name), start: start, count: count, .words(words.rest),
                .elements)
        case "copy":
            let source = try word(&words, "copy SOURCE START DEST START COUNT")
            let sourceStart = try index(&words, "copy SOURCE START DEST START COUNT")
            let dest = try word(&words, "copy SOURCE START DEST START COUNT")
            let destStart = try index(&words, "copy SOURCE START DEST START COUNT")
            let count = try index(&words, "copy SOURCE START DEST START COUNT")
            try end(words, "copy SOURCE START DEST START COUNT")
            return .copy(
                source: Reference(handle: 0, name: source), sourceStart: sourceStart,
                dest: Reference(handle: 0, name: dest), destStart: destStart, count: count,
                .elements)
        case "truncate":
            let name = try word(&words, "truncate NAME LENGTH")
            let length = try index(&words, "truncate NAME LENGTH")
            try end(words, "truncate NAME LENGTH")
            return .truncate(Reference(handle: 0, name: name), length: length, .elements)
        case "rename":
            return try rename(&words)
        case "freeze":
            let name = try word(&words, "freeze NAME")
            try end(words, "freeze NAME")
            return .freeze(Reference(handle: 0, name: name))
        case "atomic":
            return try atomic(&words)
        case "wait":
            return try wait(&words)
        case "await":
            return try awaiting(&words)
        case "notify":
            return try notify(&words)
        case "dispose", "stat":
            let name = try word(&words, "\(operation) NAME")
            try end(words, "\(operation) NAME")
            let target = Reference(handle: 0, name: name)
            return operation == "stat" ? .stat(target) : .dispose(target)
        case "list":
            let prefix = words.next()
            try end(words, "list [PREFIX]")
            return .list(prefix: prefix, cursor: 0, count: 0, sorted: true)
        case "help":
            let about = words.next()
            try end(words, "help [VERB]")
            return .help(verb: about)
        case "slowlog":
            let count = words.isAtEnd ? .max : try index(&words, "slowlog [COUNT]")
            try end(words, "slowlog [COUNT]")
            return .slowlog(count: count)
        case "clients":
            try end(words, operation)
            return .clients(cursor: 0, count: 0)
        case "ping", "stats", "quit":
            try end(words, operation)
            return operation == "ping" ? .ping : operation == "stats" ? .stats : .quit
        default:
            throw ForeignProtocol.recognises(line)
                ? SmallocError(.notSmalloc, .error, "this is smallocd, not what that line is for")
                : SmallocError(.unknownOperation, .error, "unknown verb; try help")
        }
    }

    @_lifetime(copy words)
    private static func alloc(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "alloc NAME LENGTH [TYPE [shape=AxB] [meta=base64:...] [lease=MILLISECONDS]]"
        let name = try word(&words, form)
        let length = try index(&words, form)
        let typeWord = words.next()
        let type = typeWord.byteCount == 0 ? .uint8 : elementType(typeWord)
        guard let flags = Description.flags(words) else { throw usage(form) }
        return .alloc(
            name: name, type: type?.rawValue ?? 0, typeWord: typeWord, length: length, .elements,
            flags.union(.noHandle), description: .words(words.rest))
    }

    @_lifetime(copy words)
    private static func read(
        _ words: inout Words, format: inout TextFormat
    ) throws(SmallocError) -> Request {
        let form = "read NAME [START [COUNT [numbers|hex|base64]]]"
        let name = try word(&words, form)
        let start = words.isAtEnd ? 0 : try index(&words, form)
        let count: UInt64? = words.isAtEnd ? nil : try index(&words, form)
        if !words.isAtEnd {
            let word = words.next()
            guard word.byteCount <= 16, let named = TextFormat(named: word.text) else {
                throw usage(form)
            }
            format = named
        }
        try end(words, form)
        return .read(Reference(handle: 0, name: name), start: start, count: count, .elements)
    }

    @_lifetime(copy words)
    private static func rename(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "rename NAME NAME [replace]"
        let name = try word(&words, form)
        let newName = try word(&words, form)
        var flags: RenameFlags = []
        if !words.isAtEnd {
            let word = words.next()
            guard word.byteCount == 7, word.text.lowercased() == "replace" else {
                throw usage(form)
            }
            flags = .replace
        }
        try end(words, form)
        return .rename(Reference(handle: 0, name: name), newName: newName, flags)
    }

    @_lifetime(copy words)
    private static func atomic(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "atomic NAME INDEX ACTION [VALUE...]"
        let name = try word(&words, form)
        let start = try index(&words, form)
        let actionWord = try word(&words, form)
        guard actionWord.byteCount <= 16, let action = AtomicAction(named: actionWord.text) else {
            throw .invalidArgument(
                "an action is load, store, add, sub, and, or, xor, exchange or compareExchange")
        }
        let values = words.rest
        for _ in 0..<action.valueCount { _ = try word(&words, form) }
        try end(words, form)
        return .atomic(
            Reference(handle: 0, name: name), start: start, action, .words(values), .elements)
    }

    @_lifetime(copy words)
    private static func wait(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "wait NAME INDEX VALUE MILLISECONDS"
        let name = try word(&words, form)
        let start = try index(&words, form)
        let value = try word(&words, form)
        let milliseconds = try index(&words, form)
        try end(words, form)
        return .wait(
            Reference(handle: 0, name: name), start: start, .words(value),
            milliseconds: milliseconds, .elements)
    }

    @_lifetime(copy words)
    private static func awaiting(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "await NAME MILLISECONDS [frozen]"
        let name = try word(&words, form)
        let milliseconds = try index(&words, form)
        var flags = OpenFlags.await
        if !words.isAtEnd {
            let word = words.next()
            guard word.byteCount == 6, word.text.lowercased() == "frozen" else {
                throw usage(form)
            }
            flags = .awaitFrozen
        }
        try end(words, form)
        return .await(name: name, flags, milliseconds: milliseconds, opensHandle: false)
    }

    @_lifetime(copy words)
    private static func notify(_ words: inout Words) throws(SmallocError) -> Request {
        let form = "notify NAME INDEX [COUNT]"
        let name = try word(&words, form)
        let start = try index(&words, form)
        let count = words.isAtEnd ? .max : try index(&words, form)
        try end(words, form)
        return .notify(Reference(handle: 0, name: name), start: start, count: count, .elements)
    }

    @_lifetime(copy words)
    private static func word(
        _ words: inout Words, _ form: String
    ) throws(SmallocError) -> RawSpan {
        let word = words.next()
        guard word.byteCount > 0 else { throw usage(form) }
        return word
    }

    private static func index(_ words: inout Words, _ form: String) throws(SmallocError) -> UInt64 {
        let word = words.next()
        guard word.byteCount > 0 else { throw usage(form) }
        guard let value = NumberText.index(word) else {
            throw .invalidArgument("not a whole number; usage: \(form)")
        }
        return value
    }

    private static func end(_ words: borrowing Words, _ form: String) throws(SmallocError) {
        guard words.isAtEnd else { throw usage(form) }
    }

    private static func usage(_ form: String) -> SmallocError {
        .invalidArgument("usage: \(form)")
    }

    private static func elementType(_ word: RawSpan) -> ElementType? {
        word.byteCount <= 16 ? ElementType(named: word.text) : nil
    }
}

/// Other protocols' first lines: a browser or a mistaken client must not get one command executed.
enum ForeignProtocol {
    /// Whether an unknown line starts as HTTP, SMTP, Redis, memcached, TLS or a PROXY header do.
    static func recognises(_ line: RawSpan) -> Bool {
        var words = Words(line)
        let word = words.next()
        guard let first = word.withUnsafeBytes({ $0.first }) else { return false }
        let isLetter = (0x41...0x5A).contains(first & 0xDF)
        guard isLetter else { return true }
        if word.dropping(prefix: "ssh-") != nil { return true }
        guard word.byteCount <= 16 else { return false }
        return verbs.contains(word.text.lowercased())
    }

    private static let verbs: Set<String> = [
        "get", "head", "post", "put", "delete", "connect", "options", "trace", "patch", "pri",
        "host:", "ehlo", "helo", "proxy", "set", "gets", "add", "replace", "append", "prepend",
        "cas", "incr", "decr", "touch", "version", "verbosity", "flush_all", "mg", "ms", "md",
        "mn", "auth", "config", "eval", "user", "starttls",
    ]
}
