// Subcommands that move whole allocations as bytes: to and from files, pipes and the screen.

import ArgumentParser
import Glibc
import Smalloc

/// What the bytes of a file are.
enum FileFormat: String, ExpressibleByArgument, CaseIterable {
    /// Elements, one after another.
    case raw
    /// An array of numpy's, with its type and shape before them.
    case npy

    /// The format that was asked for, or that the file's name tells.
    static func of(_ path: String, _ wanted: FileFormat?) -> FileFormat {
        wanted ?? (path.lowercased().hasSuffix(".npy") ? .npy : .raw)
    }
}

struct Put: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make an allocation of a file or a pipe.",
        discussion: """
            It gets its name once it is whole: no client sees half of it, and with --force none \
            ever finds that there is nothing of that name. A pipe may be of any length; while it \
            comes, the daemon needs up to three times its size. Holes and long runs of zeros cost \
            no memory. A file of numpy's (FILE.npy, or --format npy) brings its type and shape.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.") var name: String
    @Argument(help: "File; - is standard input.", completion: .file()) var file = "-"
    @Option(name: .shortAndLong, help: "The elements' type.") var type: ElementTypeArgument?
    @Option(
        help: ArgumentHelp(
            "Leave out so many bytes at the beginning.", valueName: "bytes"),
        transform: ElementCount.parse)
    var skip: ElementCount?
    @Option(help: "raw, or npy; by the file's name, if not given.") var format: FileFormat?
    @Flag(name: .shortAndLong, help: "Take the place of what has the name.") var force = false
    @Flag(help: "No progress bar.") var noProgress = false

    var streams: [Stream] { file == "-" ? [.input] : [] }

    func validate() throws {
        if let skip, skip.isClamped { throw ValidationError("--skip takes 0 or more bytes") }
    }

    func run(_ daemon: Smalloc) throws {
        let elements = try about(name) { try type?.type() }
        let input = try InputFile(file)
        try about(name) {
            // Told before gigabytes have been sent for nothing; rename checks it again.
            if !force, (try? daemon.stat(name)) != nil {
                throw SmallocError.alreadyExists.hintingForce
            }
        }
        try input.skip(skip?.value ?? 0)
        let form =
            FileFormat.of(file, format) == .npy
            ? try NpyHeader(from: input, asked: elements).form
            : UploadedForm(type: elements ?? .uint8)
        var progress = Progress(name, total: form.size ?? input.remaining, isWanted: !noProgress)
        try about(name) {
            let made = try upload(input, form, to: daemon, progress: &progress)
            try hintingForce(force) { () throws(SmallocError) in
                try made.rename(to: name, replacing: force)
            }
        }
    }
}

struct Get: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Write an allocation's bytes to a file or a pipe.",
        discussion: """
            A file that is there is replaced when all bytes have come, and keeps its mode; before, \
            it stays as it is, whatever happens. One that can't be replaced, as its folder takes \
            no new file or it is a mount point, is written to where it is. Long runs of zeros \
            become holes. As FILE.npy, or with --format npy, it is a file of numpy's, with type \
            and shape.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "File; - is standard output.", completion: .file()) var file = "-"
    @Option(help: "raw, or npy; by the file's name, if not given.") var format: FileFormat?
    @Flag(help: "No progress bar.") var noProgress = false

    var streams: [Stream] { file == "-" ? [.output] : [] }

    func validate() throws {
        if file == "-", isatty(1) == 1 {
            throw ValidationError("standard output is a terminal: name a file, or use hexdump")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        let all = try about(name) { try ElementRange(allocation) }
        let isNpy = FileFormat.of(file, format) == .npy
        let shape = isNpy ? try about(name) { try allocation.shape } ?? [all.count] : []
        let output = try OutputFile(file)
        if isNpy {
            try NpyHeader.bytes(allocation.type, shape).withUnsafeBytes { try output.write($0) }
        }
        var progress = Progress(name, total: allocation.size, isWanted: !noProgress)
        try about(name) {
            try readBlocks(allocation, all, progress: &progress) { try output.write($0) }
        }
        try output.finish()
    }
}

struct Concatenate: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "cat", abstract: "Print the bytes of allocations, one after another.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]

    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        try forEach(names) { name in
            let allocation = try daemon.open(name)
            var progress = Progress(
                name, total: allocation.size, isWanted: !Output.standard.isTerminal)
            let all = try ElementRange(allocation)
            try readBlocks(allocation, all, progress: &progress) {
                try Output.standard.writeSparse($0)
            }
        }
    }
}

struct Hexdump: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print bytes in hex and as characters, with their offsets.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "First element, from 0.", transform: ElementCount.parse)
    var start: ElementCount?
    @Argument(
        help: "Elements. All from START on, if not given.", transform: ElementCount.parse)
    var count: ElementCount?

    var counts: [(name: String, count: ElementCount?)] { [("START", start), ("COUNT", count)] }
    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        let allocation = try about(name) { try daemon.open(name) }
        let range = try about(name) {
            try ElementRange(allocation, from: start?.value ?? 0, count: count?.value)
        }
        let out = Output.standard
        var offset = range.start * allocation.type.size
        if common.json { return try tellJSON(allocation, range, at: offset) }
        var progress = Progress(name, total: nil, isWanted: false)
        try about(name) {
            try readBlocks(allocation, range, progress: &progress) { bytes in
                // Blocks are multiples of a line, so only the last line of all can be short.
                for first in Swift.stride(from: 0, to: bytes.count, by: 16) {
                    let line = bytes[first..<min(first + 16, bytes.count)]
                    try out.write(Hexdump.line(line, at: offset + first))
                }
                offset += bytes.count
            }
        }
        try out.write(Hexdump.offsetText(offset) + "\n")
    }

    /// One object, its digits as many as there are bytes: written as they come.
    private func tellJSON(
        _ allocation: Allocation, _ range: ElementRange, at offset: Int
    ) throws {
        let out = Output.standard
        let size = range.count * allocation.type.size
        var progress = Progress(name, total: nil, isWanted: false)
        var head =
            "{\"name\":\(JSON.string(name).text),\"type\":\"\(allocation.type.name)\""
            + ",\"offset\":\(offset),\"size\":\(size),\"hex\":\""
        try about(name) {
            try readBlocks(allocation, range, progress: &progress) { bytes in
                try out.write(head + hexText(bytes))
                head = ""
            }
        }
        try out.write(head + "\"}\n")
    }

    /// One line: `00000010  00 01 …  |..|`, as `hexdump -C` prints it.
    static func line(_ bytes: Slice<UnsafeRawBufferPointer>, at offset: Int) -> String {
        var hex = ""
        var characters = ""
        for (index, byte) in bytes.enumerated() {
            hex += (byte < 16 ? "0" : "") + String(byte, radix: 16) + (index == 7 ? "  " : " ")
            characters += (0x20...0x7E).contains(byte) ? String(Unicode.Scalar(byte)) : "."
        }
        let padding = String(repeating: " ", count: 50 - hex.count)
        return "\(offsetText(offset))  \(hex)\(padding)|\(characters)|\n"
    }

    static func offsetText(_ offset: Int) -> String {
        let digits = String(offset, radix: 16)
        return String(repeating: "0", count: max(0, 8 - digits.count)) + digits
    }
}
