// Where settings come from and which wins: the command line over the environment over the file over
// the defaults. Each value is checked, also one that is overruled: a mistake in the file must not
// wait there for the day when the option goes.

import ArgumentParser
import SmallocWire

/// The settings of a start, and what it takes to read them again.
struct LoadedSettings: Sendable {
    /// What holds now.
    private(set) var settings: Settings
    /// What the operator should know, a line each, to be logged once logging is up.
    private(set) var warnings: [String]
    /// The configuration file, if one was named.
    let file: String?

    private let commandLine: [String: [String]]
    private let environment: [String: String]

    /// What a reread changed.
    struct Change: Sendable, Equatable {
        /// Keys whose new values hold from now on.
        var applied: [String] = []
        /// Keys whose new values need a restart.
        ///
        /// The old ones still hold.
        var waiting: [String] = []
    }
}

extension Settings {
    /// Reads all settings.
    ///
    /// - Parameters:
    ///   - arguments: The command line without the program's name.
    ///   - environment: All variables.
    ///   - machine: What percentages and `auto` refer to.
    /// - Returns: Settings that hold, and that can be reread.
    /// - Throws: A `StartFailure`, which is to `leave()`: one clear line for a mistake, or the
    ///   answer to `--help`, `--version`, `--check-config` and the generators of completions.
    static func load(
        arguments: [String], environment: [String: String], machine: Machine = .current()
    ) throws(StartFailure) -> LoadedSettings {
        let options: Options
        do {
            guard let parsed = try Options.parseAsRoot(arguments) as? Options else {
                // `help` and its like parse to commands of the library's own, whose run prints.
                throw CleanExit.helpRequest()
            }
            options = parsed
        } catch {
            let code = Options.exitCode(for: error).rawValue
            throw StartFailure(message: Options.fullMessage(for: error), exitCode: code)
        }
        let file = options.config ?? environment[Setting.variablePrefix + "CONFIG"]
        let loaded = try LoadedSettings(
            commandLine: options.values, environment: environment, file: file, machine: machine)
        if options.checkConfig {
            try loaded.settings.checkStart(descriptorsMax: machine.descriptorsMax)
            let notes = loaded.warnings.map { "# warning: \(singleLine($0))\n" }.joined()
            throw .answer(notes + loaded.settings.text)
        }
        return loaded
    }
}

extension LoadedSettings {
    fileprivate init(
        commandLine: [String: [String]], environment: [String: String], file: String?,
        machine: Machine
    ) throws(StartFailure) {
        self.commandLine = commandLine
        self.environment = environment
        self.file = file
        settings = .standard(machine: machine, runtimeDirectory: environment["XDG_RUNTIME_DIR"])
        warnings = []
        try read(machine: machine)
    }

    /// Reads file and environment again, as at the start.
    ///
    /// - Parameter machine: The machine as it is now: a cgroup's limit may have changed.
    /// - Returns: What changed and what would. Equal values are not named.
    /// - Throws: The first mistake, with nothing changed.
    mutating func reload(machine: Machine = .current()) throws(StartFailure) -> Change {
        let fresh = try LoadedSettings(
            commandLine: commandLine, environment: environment, file: file, machine: machine)
        var next = fresh.settings
        var change = Change()
        for setting in Setting.all where setting.show(next) != setting.show(settings) {
            if setting.isRereadable {
                change.applied.append(setting.key)
            } else {
                change.waiting.append(setting.key)
            }
        }
        next.addresses = settings.addresses
        next.addressesAreDefault = settings.addressesAreDefault
        next.socketMode = settings.socketMode
        next.loops = settings.loops
        next.busyPollMicroseconds = settings.busyPollMicroseconds
        next.zeroCopy = settings.zeroCopy
        next.http = settings.http
        next.httpTellsNames = settings.httpTellsNames
        settings = next
        warnings = fresh.warnings
        return change
    }

    private mutating func read(machine: Machine) throws(StartFailure) {
        let keys = Setting.all.map(\.key)
        let contents: ConfigurationFile?
        if let file {
            contents = try ConfigurationFile(path: file, keys: keys)
        } else {
            contents = nil
        }

        for setting in Setting.all {
            var sources: [(name: String, values: [String])] = []
            if let values = commandLine[setting.key] {
                sources.append(("--\(setting.key)", values))
            }
            if let values = environmentValues(setting.variable) {
                sources.append((setting.variable, values))
            }
            if let contents, let entry = contents.entry(of: setting.key) {
                sources.append(("\(contents.path):\(entry.line): \(entry.key)", entry.values))
            }
            // The default anew in its turn, as length-max is a part of what memory-max has become.
            if let standard = setting.standard {
                sources.append(("default of \(setting.key)", [standard]))
            }
            // From the weakest to the strongest, each over the one before.
            for source in sources.reversed() {
                do {
                    try setting.apply(source.values, &settings, machine)
                } catch {
                    throw .configuration("\(source.name): \(error.reason)")
                }
            }
        }
        noteUnknownVariables()
        lowerConnections(machine: machine)
        noteOpenAddresses()
        if settings.zeroCopy == .on { warnings.append("zero-copy has no effect any more") }
    }

    /// What a variable sets: texts between commas, without the blanks around them.
    private func environmentValues(_ variable: String) -> [String]? {
        guard let text = environment[variable] else { return nil }
        let values = text.split(separator: ",", omittingEmptySubsequences: false).map { part in
            var value = part.drop { $0.isWhitespace }
            while value.last?.isWhitespace ?? false { value.removeLast() }
            return String(value)
        }
        // Set but empty is as good as not set, as for XDG_RUNTIME_DIR.
        return values.allSatisfy(\.isEmpty) ? nil : values
    }

    /// Unknown variables are no error: a container platform puts its own (SMALLOCD_PORT, ...) into
    /// the environment of a service by this name.
    private mutating func noteUnknownVariables() {
        let known = Setting.all.map(\.variable) + [Setting.variablePrefix + "CONFIG"]
        for name in environment.keys.sorted()
        where name.hasPrefix(Setting.variablePrefix) && !known.contains(name) {
            warnings.append("environment variable \(name) sets nothing")
        }
    }

    /// Connections stay 64 below three quarters of the limit of descriptors, or at a quarter of a
    /// tiny one: what is left is for memory that clients map, listeners, loops, and the file that a
    /// reread opens.
    ///
    /// - Parameter machine: Its limit of descriptors.
    private mutating func lowerConnections(machine: Machine) {
        let limit = machine.descriptorsMax
        let reserved = settings.http == nil ? 64 : 64 + UInt64(HTTPServer.descriptorsMax)
        let most = max(1, limit > 256 + reserved ? limit / 4 * 3 - reserved : limit / 4)
        guard settings.limits.connectionsMax > most else { return }
        warnings.append(
            "connections-max lowered from \(settings.limits.connectionsMax) to \(most):"
                + " the limit of file descriptors is \(limit)")
        settings.limits.connectionsMax = most
    }

    private mutating func noteOpenAddresses() {
        for case .tcp(host: let host, port: let port) in settings.addresses
        where !(host.hasPrefix("127.") || host == "::1" || host == "localhost") {
            warnings.append(
                "listening at \(host) port \(port) without encryption or passwords:"
                    + " any client that reaches it may do everything")
        }
    }
}
