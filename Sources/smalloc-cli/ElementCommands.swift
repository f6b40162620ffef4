// Subcommands that read, write, fill and copy elements.

import ArgumentParser
import Smalloc

struct Read: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print elements.",
        discussion: "See cat, get and hexdump for bytes.")

    enum Format: String, ExpressibleByArgument, CaseIterable {
        case numbers
        case lines
        case hex
        case raw
    }

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "First element, from 0.", transform: ElementCount.parse)
    var start: ElementCount?
    @Argument(help: "Elements. All from START on, if not given.", transform: ElementCount.parse)
    var count: ElementCount?
    @Option(
        name: .shortAndLong,
        help: "numbers on one line, in lines, as hex digits, or raw bytes.")
    var format = Format.numbers
    @Option(
        name: .shortAndLong, help: ArgumentHelp("Write to this file.", valueName: "file"),
        completion: .file())
    var output: String?
    @Flag(help: "No progress bar.") var noProgress = false

    var counts: [(name: String, count: ElementCount?)] { [("START", start), ("COUNT", count)] }
    var streams: [Stream] { output == nil || output == "-" ? [.output] : [] }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        let type = allocation.type
        let range = try about(name) {
            try ElementRange(allocation, from: start?.value ?? 0, count: count?.value)
        }
        let out = try OutputFile(output ?? "-")
        var progress = Progress(
            name, total: range.count * type.size,
            isWanted: !noProgress && (output != nil || !Output.standard.isTerminal))
        var head = ""
        if common.json {
            head =
                "{\"name\":\(JSON.string(name).text),\"type\":\"\(type.name)\""
                + ",\"start\":\(range.start),\"values\":["
        }
        var isFirst = true
        try about(name) {
            try readBlocks(allocation, range, progress: &progress) { bytes in
                // Not before there is something to stand behind it: else the error stands alone.
                try out.write(head)
                head = ""
                if format == .raw && !common.json { return try out.write(bytes) }
                if format == .hex && !common.json { return try out.write(hexText(bytes)) }
                let separator = common.json ? "," : format == .lines ? "\n" : " "
                try forEachElement(bytes, type) { text in
                    let text = common.json ? jsonText(text, type) : text
                    try out.write((isFirst ? "" : separator) + text)
                    isFirst = false
                }
            }
        }
        if common.json {
            try out.write(head + "]}\n")
        } else if format == .numbers || format == .hex || format == .lines && !isFirst {
            try out.write("\n")
        }
        try out.finish()
    }
}

struct Write: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write elements.",
        discussion: """
            Values are numbers (stored as Node stores them: 300 into a Uint8 is 44), NaN, \
            Infinity, hex:0a0b, base64:Cgs= or text:hello, mixed; or the bytes of a file or a pipe \
            (--input -), of any length; or the numbers in a text (--from -), as read prints them \
            and as tables have them: spaces, lines, commas, semicolons, bars and tabs stand \
            between them, for complex numbers all but commas; behind the last number of a line one \
            may stand if it does in every line. A text that is wrong in its first 16 \
            MiB of elements changes nothing.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(
        help: "First element, from 0; a file begins there where none is given.",
        transform: ElementCount.parse)
    var start: ElementCount?
    // Without a short form: -i would be the beginning of -Infinity.
    @Option(
        help: ArgumentHelp("Write the bytes of this file; - is standard input.", valueName: "file"),
        completion: .file())
    var input: String?
    @Option(
        help: ArgumentHelp(
            "Write the numbers in this text; - is standard input.", valueName: "file"),
        completion: .file())
    var from: String?
    @Option(
        help: ArgumentHelp("Leave out so many lines of --from.", valueName: "lines"),
        transform: ElementCount.parse)
    var skip: ElementCount?
    @Flag(help: "No progress bar.") var noProgress = false
    @Argument(help: "Values.") var values: [String] = []

    var counts: [(name: String, count: ElementCount?)] { [("START", start)] }
    var streams: [Stream] { input == "-" || from == "-" ? [.input] : [] }

    func validate() throws {
        guard [!values.isEmpty, input != nil, from != nil].count(where: { $0 }) == 1 else {
            throw ValidationError("one of values, --input and --from is needed, and no more")
        }
        if let skip, from == nil || skip.isClamped {
            throw ValidationError("--skip takes 0 or more lines of --from")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        guard let path = input ?? from else {
            return try about(name) {
                let bytes = try elementBytes(values, allocation.type)
                try bytes.withUnsafeBytes { try allocation.write($0, at: start?.value ?? 0) }
            }
        }
        let file = try InputFile(path)
        var progress = Progress(name, total: file.remaining, isWanted: !noProgress)
        try about(name) {
            if from == nil {
                try writeFile(file, into: allocation, at: start?.value ?? 0, progress: &progress)
            } else {
                try writeNumbers(
                    of: file, skippingLines: skip?.value ?? 0, into: allocation,
                    at: start?.value ?? 0, progress: &progress)
            }
        }
    }
}

struct Fill: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Store one value into many elements, inside the daemon.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "First element, from 0.", transform: ElementCount.parse) var start: ElementCount
    @Argument(help: "Elements.", transform: ElementCount.parse) var count: ElementCount
    @Argument(help: "A number, as for write.") var value: String

    var counts: [(name: String, count: ElementCount?)] { [("START", start), ("COUNT", count)] }

    func run(_ daemon: Smalloc) throws {
        try about(name) {
            let allocation = try daemon.open(name)
            let bytes = try elementBytes([value], allocation.type)
            guard bytes.count == allocation.type.size else {
                throw SmallocError.invalidArgument("one element is needed")
            }
            try bytes.withUnsafeBytes {
                try allocation.fill(repeating: $0, from: start.value, count: count.value)
            }
        }
    }
}

struct Copy: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copy elements of one allocation onto another, inside the daemon.",
        discussion: """
            Bytes are copied, values are not converted. The two may be the same, and the ranges \
            may overlap. SOURCE-START and COUNT are the source's elements, DEST-START the dest's.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Read from.", completion: .allocation) var source: String
    @Argument(help: "First element read.", transform: ElementCount.parse)
    var sourceStart: ElementCount
    @Argument(help: "Written to.", completion: .allocation) var dest: String
    @Argument(help: "First element written.", transform: ElementCount.parse)
    var destStart: ElementCount
    @Argument(help: "Elements.", transform: ElementCount.parse) var count: ElementCount

    var counts: [(name: String, count: ElementCount?)] {
        [("SOURCE-START", sourceStart), ("DEST-START", destStart), ("COUNT", count)]
    }

    func run(_ daemon: Smalloc) throws {
        try about("\(source) to \(dest)") {
            let from = try open(daemon, source, or: .noSourceData)
            let onto = try open(daemon, dest, or: .noDestData)
            try daemon.copyOnto(from, sourceStart.value, onto, destStart.value, count.value)
        }
    }
}

struct Duplicate: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp",
        abstract: "Copy a whole allocation to another name, inside the daemon.",
        discussion: """
            Its shape and metadata, too. The new allocation gets its name once it is whole. One \
            that is there already stays unless --force is given, which puts the new one in its \
            place: at no moment is there none of that name. copy writes into it instead.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Read from.", completion: .allocation) var source: String
    @Argument(help: "The copy's name.") var dest: String
    @Flag(name: .shortAndLong, help: "Take the place of what has the name.") var force = false

    func run(_ daemon: Smalloc) throws {
        try about("\(source) to \(dest)") {
            let from = try open(daemon, source, or: .noSourceData)
            let (shape, metadata) = (try from.shape, try from.metadata)
            let made =
                if let shape { try daemon.alloc(shape: shape, from.type, metadata: metadata) } else
                {
                    try daemon.alloc(from.length, from.type, metadata: metadata)
                }
            try daemon.copyOnto(from, 0, made, 0, from.length)
            try hintingForce(force) { () throws(SmallocError) in
                try made.rename(to: dest, replacing: force)
            }
        }
    }
}

/// Opens an allocation; that there is none is told in the words of a copy.
private func open(
    _ daemon: Smalloc, _ name: String, or missing: SmallocError
) throws(SmallocError) -> Allocation {
    do throws(SmallocError) {
        return try daemon.open(name)
    } catch {
        throw error.status == .noData ? missing : error
    }
}

extension Int {
    /// The product, or the largest number where it would be larger.
    func multipliedClamped(by other: Int) -> Int {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}

/// Bytes as pairs of hex digits.
func hexText(_ bytes: UnsafeRawBufferPointer) -> String {
    let digits = Array("0123456789abcdef".utf8)
    return String(unsafeUninitializedCapacity: bytes.count * 2) { text in
        for (index, byte) in bytes.enumerated() {
            text[index * 2] = digits[Int(byte >> 4)]
            text[index * 2 + 1] = digits[Int(byte & 15)]
        }
        return bytes.count * 2
    }
}
