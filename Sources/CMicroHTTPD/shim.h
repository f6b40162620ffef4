#pragma once

#include <microhttpd.h>
#include <stdbool.h>

// Swift sees no constants whose names are macros, too.
static const enum MHD_Result smalloc_http_yes = MHD_YES;
static const enum MHD_Result smalloc_http_no = MHD_NO;
static const enum MHD_ValueKind smalloc_http_header = MHD_HEADER_KIND;
static const enum MHD_ValueKind smalloc_http_argument = MHD_GET_ARGUMENT_KIND;
static const enum MHD_ResponseMemoryMode smalloc_http_frees = MHD_RESPMEM_MUST_FREE;
static const enum MHD_ResponseMemoryMode smalloc_http_copies = MHD_RESPMEM_MUST_COPY;
static const enum MHD_ConnectionNotificationCode smalloc_http_closed =
    MHD_CONNECTION_NOTIFY_CLOSED;

// It can't call functions with any number of arguments.

typedef struct {
    int listener;
    unsigned connections;
    unsigned connections_of_address;
    size_t memory_size;
    unsigned timeout_seconds;
    MHD_AccessHandlerCallback _Nonnull answer;
    MHD_NotifyConnectionCallback _Nonnull connection;
    MHD_RequestCompletedCallback _Nonnull completed;
    void *_Nonnull context;
} smalloc_http_options;

// A thread that serves connections to a listening socket. NULL: the system refuses it.
static inline struct MHD_Daemon *_Nullable smalloc_http_start(smalloc_http_options options) {
    return MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_POLL | MHD_USE_ITC, 0, NULL, NULL,
        options.answer, options.context,
        MHD_OPTION_LISTEN_SOCKET, options.listener,
        MHD_OPTION_CONNECTION_LIMIT, options.connections,
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, options.connections_of_address,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, options.memory_size,
        MHD_OPTION_CONNECTION_TIMEOUT, options.timeout_seconds,
        MHD_OPTION_NOTIFY_CONNECTION, options.connection, options.context,
        MHD_OPTION_NOTIFY_COMPLETED, options.completed, options.context,
        MHD_OPTION_END);
}

// The socket of a connection; -1: it has none.
static inline int smalloc_http_descriptor(struct MHD_Connection *_Nonnull connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}
