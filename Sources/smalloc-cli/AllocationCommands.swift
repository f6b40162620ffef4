// Subcommands that make, show, shorten, rename and dispose of allocations.

import ArgumentParser
import Smalloc

struct Alloc: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Allocate zero-filled memory under a name.",
        discussion: """
            With --shape the length may be left out. Shape and metadata are kept by the daemon, \
            and told by stat. What is --shareable is in memory that programs can map from the \
            start; else the first map moves it there.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "1 to 255 printable characters without spaces; / separates namespaces.")
    var name: String
    @Argument(help: "Elements.") var length: LengthArgument?
    @Argument(
        help: "The elements' type: \(ElementTypeArgument.allValueStrings.joined(separator: ", ")).")
    var type: ElementTypeArgument?
    @Option(
        help: ArgumentHelp(
            "Dimensions whose product is the length, as 512x256, or scalar.", valueName: "shape"))
    var shape: ShapeArgument?
    @Option(
        help: ArgumentHelp(
            "Up to 256 bytes of your own: hex:…, base64:…, or text.", valueName: "metadata"))
    var meta: MetadataArgument?
    @Flag(help: "In memory that programs can map, from the start.") var shareable = false
    @Flag(help: "Succeed where there is one of that name, type and length, or shape.")
    var existOk = false

    var counts: [(name: String, count: ElementCount?)] { [("LENGTH", length?.count)] }
    var streams: [Stream] { common.json ? [.output] : [] }

    func validate() throws {
        guard let length else {
            if shape != nil { return }
            throw ValidationError("Missing expected argument '<length>'")
        }
        // Where a shape says the length, what stands in its place may be the type.
        if length.count == nil, shape == nil || type != nil {
            throw ValidationError("The value '\(length.word)' is invalid for '<length>'")
        }
    }

    func run(_ daemon: Smalloc) throws {
        try about(name) {
            let word = length.flatMap { $0.count == nil ? $0.word : nil }
            let type = try (word.flatMap { ElementTypeArgument(argument: $0) } ?? type)?.type()
            let count = length?.count?.value ?? shape?.length ?? 0
            while true {
                do throws(SmallocError) {
                    return try daemon.create(
                        name, count, type ?? .uint8, shape: shape?.shape,
                        metadata: meta?.bytes ?? [], shareable: shareable)
                } catch {
                    guard existOk, error.status == .alreadyExists else { throw error }
                    // Gone since: it is made after all.
                    guard let found = try daemon.stat([name])[0] else { continue }
                    guard found.type == type ?? .uint8, found.length == count,
                        shape == nil || found.shape == shape?.shape
                    else { throw error }
                    return
                }
            }
        }
        guard common.json else { return }
        try tell(try daemon.stat(name))
    }
}

struct Stat: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what the daemon knows of allocations.",
        discussion: """
            flags: shareable, it was made to be mapped; described, with a shape or metadata; \
            frozen; shared, it is in memory that can be mapped. maps: whether programs have it \
            mapped now, for reading only (read) or for writing (write).
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]

    var streams: [Stream] { [.output] }

    func run(_ daemon: Smalloc) throws {
        for name in names {
            let stat = try about(name) { try daemon.stat(name) }
            if common.json {
                try tell(stat)
                continue
            }
            let flags = flagWords(stat)
            var rows: [(String, String)] = [
                ("name", name), ("type", stat.type.name), ("length", String(stat.length)),
                ("size", "\(stat.size) (\(humanSize(stat.size)))"),
                ("created", timestamp(stat.createdMilliseconds)),
                ("handles", String(stat.handles)), ("storage", "\(stat.storage)"),
                ("flags", flags.isEmpty ? "none" : flags.joined(separator: ",")),
                ("maps", "\(stat.maps)"),
            ]
            if let owner = stat.owner { rows.append(("owner", String(owner))) }
            if let shape = stat.shape { rows.append(("shape", shapeText(shape))) }
            if !stat.metadata.isEmpty { rows.append(("metadata", metadataText(stat.metadata))) }
            for (key, value) in rows {
                try Output.standard.write(
                    key + String(repeating: " ", count: 9 - key.count) + value + "\n")
            }
        }
    }
}

struct List: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the named allocations.",
        discussion: """
            On a terminal: a table with sizes for people. Else a line each, name, type, length and \
            size in bytes, separated by tabs. With --long also the shape, or - where there is \
            none.
            """,
        aliases: ["list"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "Only names that begin so.", completion: .allocation) var prefix = ""
    @Flag(name: .shortAndLong, help: "Sizes in bytes, also on a terminal.") var bytes = false
    @Flag(name: .shortAndLong, help: "Sizes for people, also in a pipe.") var human = false
    @Flag(name: .shortAndLong, help: "Shapes, too, which are asked for.") var long = false
    @Flag(help: "The largest first instead of by name.") var bySize = false
    @Flag(help: "In the daemon's order, as it comes: any number of names in little memory.")
    var unsorted = false

    var streams: [Stream] { [.output] }

    func validate() throws {
        if bytes && human { throw ValidationError("--bytes and --human exclude each other") }
        if bySize && unsorted {
            throw ValidationError("--by-size and --unsorted exclude each other")
        }
    }

    func run(_ daemon: Smalloc) throws {
        let table = (Output.standard.isTerminal || human) && !common.json
        var isFirst = true
        if unsorted {
            var pages = try daemon.pages(prefix)
            while let page = pages.next() {
                let page = try page.get()
                for (entry, shape) in zip(page, try shapes(page, daemon)) {
                    try tell(entry, shape, isFirst: isFirst)
                    isFirst = false
                }
                TimeLimit.restart()
            }
        } else {
            var entries = try daemon.list(prefix)
            entries.sort { bySize && $0.size != $1.size ? $0.size > $1.size : $0.name < $1.name }
            let shapes = try shapes(entries, daemon)
            if table {
                try tell(table: entries, shapes)
            } else {
                for (entry, shape) in zip(entries, shapes) {
                    try tell(entry, shape, isFirst: isFirst)
                    isFirst = false
                }
            }
        }
        if common.json { try Output.standard.write(isFirst ? "[]\n" : "]\n") }
    }

    /// The shapes of allocations, as far as they are wanted; one that is gone by now has none.
    private func shapes(_ entries: [Smalloc.Entry], _ daemon: Smalloc) throws -> [[Int]?] {
        guard long else { return Array(repeating: nil, count: entries.count) }
        return try daemon.stat(entries.map(\.name)).map { $0?.shape }
    }

    private func tell(_ entry: Smalloc.Entry, _ shape: [Int]?, isFirst: Bool) throws {
        if common.json {
            var members: [(String, JSON)] = [
                ("name", .string(entry.name)), ("type", .string(entry.type.name)),
                ("length", .integer(entry.length)), ("size", .integer(entry.size)),
            ]
            if long { members.append(("shape", JSON(shape))) }
            try Output.standard.write((isFirst ? "[" : ",\n ") + JSON.object(members).text)
        } else {
            let size = human ? humanSize(entry.size) : String(entry.size)
            try Output.standard.write(
                "\(entry.name)\t\(entry.type.name)\t\(entry.length)\t\(size)"
                    + (long ? "\t\(shape.map(shapeText) ?? "-")\n" : "\n"))
        }
    }

    private func tell(table entries: [Smalloc.Entry], _ shapes: [[Int]?]) throws {
        let rows = zip(entries, shapes).map { entry, shape in
            [
                entry.name, entry.type.name, String(entry.length),
                bytes ? String(entry.size) : humanSize(entry.size),
            ] + (long ? [shape.map(shapeText) ?? "-"] : [])
        }
        let titles = ["NAME", "TYPE", "LENGTH", "SIZE"] + (long ? ["SHAPE"] : [])
        try Output.standard.write(
            tableText([titles] + rows, right: titles.map { $0 == "LENGTH" || $0 == "SIZE" }))
    }
}

struct Remove: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Dispose of allocations.",
        discussion: "Who has one open loses it; its name is free at once.", aliases: ["dispose"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]
    @Flag(name: .shortAndLong, help: "Names that aren't there are no error.") var force = false

    func run(_ daemon: Smalloc) throws {
        var first: Failure?
        // As rm does: what can be removed is removed, each failure told, the first one decides.
        for name in names {
            do throws(SmallocError) {
                try daemon.dispose(named: name)
            } catch {
                if force && error.status == .noData { continue }
                let failure = Failure(name, error)
                if error.isTransport { throw failure }
                if let earlier = first { earlier.tell(isJSON: common.json) }
                first = failure
            }
        }
        if let first { throw first }
    }
}

struct Truncate: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Shorten an allocation.", discussion: "What lies beyond is gone.")

    @OptionGroup var common: CommonOptions
    @Argument(help: "Name.", completion: .allocation) var name: String
    @Argument(help: "Elements that stay.") var length: ElementCount

    var counts: [(name: String, count: ElementCount?)] { [("LENGTH", length)] }

    func run(_ daemon: Smalloc) throws {
        try about(name) { try daemon.open(name).truncate(length.value) }
    }
}

struct Freeze: DaemonCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make what allocations hold unchangeable.",
        discussion: """
            For good, and for everybody: who reads or maps them need not trust who wrote them. \
            They can still be renamed, replaced and removed. What a process has mapped for \
            writing, or writes at the time, is busy, and stays as it is.
            """)

    @OptionGroup var common: CommonOptions
    @Argument(help: "Names.", completion: .allocation) var names: [String]

    func run(_ daemon: Smalloc) throws {
        for name in names { try about(name) { try daemon.freeze(name) } }
    }
}

struct Rename: DaemonCommand {
    static let configuration = CommandConfiguration(
        commandName: "mv", abstract: "Give an allocation another name.",
        discussion: """
            The new name must be free, unless --force is given: then the allocation takes the \
            place of the one that has it, which is disposed of. At no moment is there none of that \
            name.
            """, aliases: ["rename"])

    @OptionGroup var common: CommonOptions
    @Argument(help: "The name now.", completion: .allocation) var name: String
    @Argument(help: "The new name.") var newName: String
    @Flag(name: .shortAndLong, help: "Take the place of what has the new name.") var force = false

    func run(_ daemon: Smalloc) throws {
        try about("\(name) to \(newName)") {
            try daemon.rename(name, to: newName, replacing: force)
        }
    }
}

/// Prints one allocation as a line of JSON.
private func tell(_ stat: Smalloc.Stat) throws {
    let members: [(String, JSON)] = [
        ("name", stat.name.map(JSON.string) ?? .null), ("type", .string(stat.type.name)),
        ("length", .integer(stat.length)), ("size", .integer(stat.size)),
        ("createdMilliseconds", .integer(Int(stat.createdMilliseconds))),
        ("handles", .integer(stat.handles)), ("storage", .string("\(stat.storage)")),
        ("flags", .array(flagWords(stat).map(JSON.string))), ("maps", .string("\(stat.maps)")),
        ("owner", stat.owner.map { .integer(Int($0)) } ?? .null), ("shape", JSON(stat.shape)),
        (
            "metadata",
            stat.metadata.isEmpty ? .null : .string("base64:" + base64Text(stat.metadata))
        ),
    ]
    try Output.standard.write(JSON.object(members).text + "\n")
}

/// Rows as a table, columns two spaces apart.
///
/// - Parameters:
///   - rows: All of the same number of columns.
///   - right: Which columns are set to the right.
/// - Returns: A line each.
func tableText(_ rows: [[String]], right: [Bool]) -> String {
    let widths = right.indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
        let cells = row.indices.map { column in
            let padding = String(repeating: " ", count: widths[column] - row[column].count)
            let isLast = column == row.count - 1
            return right[column] ? padding + row[column] : row[column] + (isLast ? "" : padding)
        }
        let line = cells.joined(separator: "  ")
        return line.prefix(line.count - line.reversed().prefix { $0 == " " }.count) + "\n"
    }.joined()
}
