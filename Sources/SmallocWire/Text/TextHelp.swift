// What `help` says inside a session.

/// One verb's help.
struct TextHelp: Sendable {
    let verb: String
    let form: String
    let meaning: String
    let more: [String]

    static let lines: [TextHelp] = [
        TextHelp(
            verb: "alloc",
            form: "alloc NAME LENGTH [TYPE [shape=AxB] [meta=base64:...] [lease=MILLISECONDS]]",
            meaning: "make an allocation of zeros",
            more: [
                "LENGTH counts elements. TYPE is Int8, Uint8 (default), Int16, Uint16, Int32,",
                "Uint32, Float, Double, Uint8Clamped, Int64, Uint64, Float16, Bfloat16, Bool,",
                "ComplexFloat or ComplexDouble, in any case. shape= says how the elements lie in",
                "dimensions (or: scalar), meta= up to 256 bytes of your own; stat tells both.",
                "lease= has it end when it is not used for so long, or, with 0, with this session.",
                "example: alloc samples 1000 Double shape=10x100",
            ]),
        TextHelp(
            verb: "write", form: "write NAME START VALUE...", meaning: "store values from START on",
            more: [
                "VALUE is a number (NaN, Infinity and -0 too; of a Bool also false and true, of",
                "a complex type RE,IM), hex:DIGITS, base64:DIGITS, or text:... which takes the",
                "rest of the line as it is.",
                "example: write samples 0 1 2.5 -3e4",
            ]),
        TextHelp(
            verb: "read", form: "read NAME [START [COUNT [numbers|hex|base64]]]",
            meaning: "print elements",
            more: ["example: read samples 0 3"]),
        TextHelp(
            verb: "copy", form: "copy SOURCE START DEST START COUNT",
            meaning: "copy inside the daemon",
            more: [
                "START and COUNT count elements of their own allocation, COUNT those of SOURCE.",
                "Bytes are copied, values never converted; overlap is right.",
                "example: copy b 2 a 0 2",
            ]),
        TextHelp(
            verb: "fill", form: "fill NAME START COUNT VALUE...",
            meaning: "store one value many times",
            more: [
                "Several values are a pattern, of 64 bytes at most, that fits COUNT elements.",
                "example: fill samples 0 1000 0.5",
            ]),
        TextHelp(
            verb: "dispose", form: "dispose NAME", meaning: "free an allocation", more: []),
        TextHelp(
            verb: "truncate", form: "truncate NAME LENGTH", meaning: "make an allocation shorter",
            more: []),
        TextHelp(
            verb: "rename", form: "rename NAME NAME [replace]",
            meaning: "give an allocation another name",
            more: [
                "With replace the allocation that has the new name is disposed of, and at no",
                "moment is there none of that name.",
                "example: rename samples.new samples replace",
            ]),
        TextHelp(
            verb: "freeze", form: "freeze NAME",
            meaning: "make what an allocation holds unchangeable",
            more: ["there is no way back; it can still be read, renamed and disposed of"]),
        TextHelp(
            verb: "atomic", form: "atomic NAME INDEX ACTION [VALUE...]",
            meaning: "change one integer, and tell what it was",
            more: [
                "ACTION is load; store, add, sub, and, or, xor or exchange, and a VALUE; or",
                "compareExchange EXPECTED NEW, which stores NEW if it finds EXPECTED. No other",
                "request sees the integer in between.",
                "example: atomic counters 0 add 1",
            ]),
        TextHelp(
            verb: "wait", form: "wait NAME INDEX VALUE MILLISECONDS",
            meaning: "wait for a notify while an integer is VALUE",
            more: [
                "answers notified, timeout, disposed, or differs if it is another VALUE already.",
                "-1 MILLISECONDS is for ever. For Int32 and Uint32. Lines behind it wait, too.",
                "example: wait flags 0 0 1000",
            ]),
        TextHelp(
            verb: "notify", form: "notify NAME INDEX [COUNT]",
            meaning: "end waits on an integer, all or COUNT",
            more: [
                "answers how many. Change the integer first: those that come later compare it.",
                "example: notify flags 0 1",
            ]),
        TextHelp(
            verb: "await", form: "await NAME MILLISECONDS [frozen]",
            meaning: "wait until there is an allocation of that name",
            more: [
                "With frozen until it can't be changed any more. -1 MILLISECONDS is for ever; ERR",
                "noData when the time is up. Lines behind it wait, too.",
                "example: await results 5000 frozen",
            ]),
        TextHelp(
            verb: "stat", form: "stat NAME", meaning: "tell about an allocation", more: []),
        TextHelp(
            verb: "list", form: "list [PREFIX]", meaning: "tell names, types and lengths",
            more: ["answers ITEM lines, then OK and their number"]),
        TextHelp(verb: "ping", form: "ping", meaning: "answer OK pong", more: []),
        TextHelp(
            verb: "stats", form: "stats", meaning: "tell the daemon's counters and limits",
            more: ["answers STAT lines, then OK and their number"]),
        TextHelp(
            verb: "clients", form: "clients", meaning: "tell who is connected",
            more: [
                "answers CLIENT lines, then OK and their number. The daemon's own user and root",
                "are told of all connections, others of those of their user.",
            ]),
        TextHelp(
            verb: "slowlog", form: "slowlog [COUNT]", meaning: "tell the requests that took long",
            more: [
                "answers SLOW lines, the youngest first, then OK and their number. duration= is",
                "in seconds; name= is - where it is not yours to know, or not known.",
            ]),
        TextHelp(
            verb: "help", form: "help [VERB]", meaning: "this, or more about one verb", more: []),
        TextHelp(verb: "quit", form: "quit", meaning: "end the session", more: []),
    ]
}
