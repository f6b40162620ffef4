// The command line. Values stay as they were typed: the table in Setting.swift reads them, as it
// reads those of the environment and the file, so that each is checked once and in one way.

import ArgumentParser

/// The daemon's command line.
struct Options: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "smallocd",
        abstract: "Holds named, typed allocations of memory for its clients.",
        discussion: """
            Each option may also be set in the configuration file, by the same word without the \
            dashes (memory-max: 64M), and in the environment (SMALLOCD_MEMORY_MAX=64M). The \
            command line wins over the environment, the environment over the file.

            Sizes: 4096, 64K, 64M, 1G, 1T or 64KiB (powers of 1024), 64MB (powers of 1000), 80%. \
            Times: 30 (seconds), 50us, 500ms, 5s, 5m, 1h, 1d.

            SIGHUP rereads the file, SIGTERM and SIGINT finish what was begun and leave, a second \
            one leaves at once.

            Exit codes: 0 after a clean stop, 64 unknown or missing options, 69 the address is in \
            use, 71 the system refused something, 78 a wrong value, wherever it was set.
            """,
        version: "smallocd \(version)"
    )

    @Option(
        help: ArgumentHelp(
            "Listen at unix:PATH, tcp:HOST:PORT or tcp:[IPV6]:PORT. May be repeated.",
            discussion: """
                Default: unix:$XDG_RUNTIME_DIR/smallocd.sock, or unix:/run/smallocd/smallocd.sock \
                where there is no XDG_RUNTIME_DIR. TCP has neither encryption nor passwords: \
                any client that reaches the port may do everything. In the environment: \
                separated by commas.
                """, valueName: "address"))
    var listen: [String] = []

    @Option(help: ArgumentHelp("Permissions of Unix sockets. (default: 0600)", valueName: "octal"))
    var socketMode: String?

    @Option(
        help: ArgumentHelp(
            "Loops, a thread each, or auto: the processors less one, at least 1. (default: auto)",
            valueName: "count"))
    var loops: String?

    @Option(
        help: ArgumentHelp(
            "Keep asking for so long before sleeping, while requests come closer together than"
                + " that; 0: always sleep. (default: 50us)", valueName: "time"))
    var busyPoll: String?

    @Option(
        help: ArgumentHelp(
            "Has no effect any more; off, same-user and on are accepted. (default: same-user)",
            valueName: "whom"))
    var zeroCopy: String?

    @Option(
        help: ArgumentHelp(
            "Log events of trace, debug, info, notice, warning, error or critical and above."
                + " (default: info)", valueName: "level"))
    var logLevel: String?

    @Option(
        help: ArgumentHelp(
            "Bytes in all allocations, or a percentage of the machine's or the cgroup's memory."
                + " (default: 80%)", valueName: "size"))
    var memoryMax: String?

    @Option(
        help: ArgumentHelp(
            "Bytes in one allocation (kMaxLength), or a percentage of --memory-max."
                + " (default: 100%)", valueName: "size"))
    var lengthMax: String?

    @Option(
        help: ArgumentHelp(
            "Allocations, named or not, at most 67108864. (default: 16777216)",
            valueName: "count"))
    var allocationsMax: String?

    @Option(
        help: ArgumentHelp(
            "Connections. Lowered to what the limit of descriptors leaves. (default: 65536)",
            valueName: "count"))
    var connectionsMax: String?

    @Option(
        help: ArgumentHelp("Bytes in a frame's payload, below 4G. (default: 1G)", valueName: "size")
    )
    var frameSizeMax: String?

    @Option(
        help: ArgumentHelp(
            "Requests under way on a connection before it is not read from. (default: 4096)",
            valueName: "count"))
    var requestsInFlightMax: String?

    @Option(help: ArgumentHelp("Handles of a connection. (default: 1048576)", valueName: "count"))
    var handlesMax: String?

    @Option(
        help: ArgumentHelp(
            "Unsent bytes of a connection before it is not read from. (default: 1M)",
            valueName: "size"))
    var outputSizeMax: String?

    @Option(help: ArgumentHelp("Bytes in a line of text mode. (default: 1M)", valueName: "size"))
    var lineSizeMax: String?

    @Option(
        help: ArgumentHelp("Bytes in a new name, at most 255. (default: 255)", valueName: "count"))
    var nameSizeMax: String?

    @Option(
        help: ArgumentHelp(
            "Close a connection that sends nothing for so long; 0: never. (default: 0)",
            valueName: "time"))
    var idleTimeout: String?

    @Option(
        help: ArgumentHelp(
            "Close a connection whose request makes no progress (64 KiB, or its end) for so long;"
                + " 0: never. (default: 30)", valueName: "time"))
    var requestTimeout: String?

    @Option(
        help: ArgumentHelp(
            "Serve metrics and health by HTTP at unix:PATH or tcp:127.0.0.1:PORT. (default: off)",
            discussion: """
                For reading only: /metrics for Prometheus, /healthz, /stats.json. Over a Unix \
                socket also a page at /, and the names of allocations. Over TCP every user of \
                the machine can read it, so the address must be a loopback one.
                """, valueName: "address"))
    var http: String?

    @Option(
        help: ArgumentHelp(
            "Tell names, and serve the page, by HTTP over TCP, too: yes or no. (default: no)",
            valueName: "choice"))
    var httpNames: String?

    @Option(
        help: ArgumentHelp(
            "Note requests that take at least so long in the slow log. (default: 100ms)",
            valueName: "time"))
    var slowlogThreshold: String?

    @Option(
        help: ArgumentHelp(
            "Entries of the slow log, at most 1024; 0: none. (default: 128)", valueName: "count"))
    var slowlogLength: String?

    @Option(
        help: ArgumentHelp("Read this configuration file (YAML).", valueName: "file"),
        completion: .file(extensions: ["yaml", "yml"]))
    var config: String?

    @Flag(help: "Check all settings, print those that hold, and exit.")
    var checkConfig = false

    /// What was given, by key of the table of settings.
    var values: [String: [String]] {
        let single: [(String, String?)] = [
            ("socket-mode", socketMode), ("loops", loops), ("busy-poll", busyPoll),
            ("zero-copy", zeroCopy), ("log-level", logLevel),
            ("memory-max", memoryMax), ("length-max", lengthMax),
            ("allocations-max", allocationsMax), ("connections-max", connectionsMax),
            ("frame-size-max", frameSizeMax), ("requests-in-flight-max", requestsInFlightMax),
            ("handles-max", handlesMax), ("output-size-max", outputSizeMax),
            ("line-size-max", lineSizeMax), ("name-size-max", nameSizeMax),
            ("idle-timeout", idleTimeout),
            ("request-timeout", requestTimeout),
            ("http", http), ("http-names", httpNames),
            ("slowlog-threshold", slowlogThreshold), ("slowlog-length", slowlogLength),
        ]
        var values: [String: [String]] = listen.isEmpty ? [:] : ["listen": listen]
        for case (let key, let value?) in single {
            values[key] = [value]
        }
        return values
    }
}
