/*
 * An output plugin that does what its properties say and writes down every call.
 *
 * Calls go to the file named by PROBE_CALLS, one line each, written in one piece: a test reads the order of
 * calls, their arguments and their threads there. Nothing here sleeps: a flush that waits, waits for a test
 * (`gate`, a FIFO) or for other flushes (`together`).
 *
 * Built in variants: PROBE_NAME names the plugin; WITHOUT_REGISTER, WITHOUT_INIT, WITHOUT_CTX, WITHOUT_PLAIN,
 * WITHOUT_EXIT leave exports out; UNDEFINED_SYMBOL needs one that nothing has; PROBE_TYPE and PROBE_EVENTS are
 * what it registers as.
 */

/* What a variant leaves out may leave others without use. */
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-variable"

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#ifndef PROBE_NAME
#define PROBE_NAME "probe"
#endif
#ifndef PROBE_TYPE
#define PROBE_TYPE 2
#endif
#ifndef PROBE_EVENTS
#define PROBE_EVENTS 0
#endif

enum { ERROR = 0, OK = 1, RETRY = 2 };

/* Fluent Bit's proxy ABI, 64 bit. */
struct definition {
    int type;
    int proxy;
    int flags;
    char *name;
    char *description;
    int event_type;
    void *config_map;
};

struct api {
    char *(*output_get_property)(const char *key, void *instance);
    char *(*input_get_property)(const char *key, void *instance);
    void *(*output_get_cmt_instance)(void *instance);
    void *(*input_get_cmt_instance)(void *instance);
    void (*log_print)(int level, const char *file, int line, const char *format, ...);
    int (*input_log_check)(void *instance, int level);
    int (*output_log_check)(void *instance, int level);
    char *(*custom_get_property)(const char *key, void *instance);
    int (*custom_log_check)(void *instance, int level);
};

struct context {
    void *remote_context;
    void *host_private;
};

struct plugin {
    char *name;
    struct api *api;
    void *instance;
    struct context *context;
};

/* One instance. The context handed to the host is its address, or what `context` says. */
struct probe {
    char id[64];
    char gate[512];
    char dump[512];
    char answers[64];
    char exit[16];
    int together;
    int alone_ms;
    int flushes;
    int inside;
    int inside_max;
};

#define INSTANCES_MAX 8
static struct probe probes[INSTANCES_MAX];
static int probe_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t moved = PTHREAD_COND_INITIALIZER;
/* Flushes of all instances of this library inside at once, and the most there have been. */
static int library_inside;
static int library_inside_max;

static void note(const char *format, ...)
{
    char line[2048];
    char thread[32] = "";
    const char *path = getenv("PROBE_CALLS");
    va_list arguments;
    int length;
    int fd;

    if (path == NULL) {
        return;
    }
    va_start(arguments, format);
    length = vsnprintf(line, sizeof(line) - 64, format, arguments);
    va_end(arguments);
    pthread_getname_np(pthread_self(), thread, sizeof(thread));
    length += snprintf(line + length, 64, " [" PROBE_NAME " on %s]\n", thread);
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, line, length) != length) {
        abort();
    }
    close(fd);
}

static void get(struct plugin *plugin, const char *key, char *out, size_t size)
{
    const char *value = plugin->api->output_get_property(key, plugin->instance);

    snprintf(out, size, "%s", value != NULL ? value : "");
}

static int get_int(struct plugin *plugin, const char *key)
{
    char value[16];

    get(plugin, key, value, sizeof(value));
    return atoi(value);
}

/* Asks for each key of a list and notes what came. */
static void ask(struct plugin *plugin, char *keys)
{
    char *key;
    char *rest = NULL;

    for (key = strtok_r(keys, ", ", &rest); key != NULL; key = strtok_r(NULL, ", ", &rest)) {
        const char *value = plugin->api->output_get_property(key, plugin->instance);
        if (value == NULL) {
            note("property %s is not there", key);
        } else {
            note("property %s = %s", key, value);
        }
    }
}

static void use_table(struct plugin *plugin)
{
    struct api *api = plugin->api;
    void *metrics = api->output_get_cmt_instance(plugin->instance);
    int level;

    note("table checks %d%d%d%d%d null %d%d", api->output_log_check(plugin->instance, 1),
         api->output_log_check(plugin->instance, 2), api->output_log_check(plugin->instance, 3),
         api->input_log_check(plugin->instance, 4), api->custom_log_check(plugin->instance, 5),
         api->output_log_check(NULL, 1), api->output_get_property("id", NULL) != NULL);
    note("table lookups %s %s", api->input_get_property("id", plugin->instance),
         api->custom_get_property("ID", plugin->instance));
    note("table metrics %s", metrics == NULL ? "null"
         : metrics == api->input_get_cmt_instance(plugin->instance) ? "same" : "other");
    for (level = 1; level <= 5; level++) {
        if (api->output_log_check(plugin->instance, level)) {
            api->log_print(level, NULL, 0, "%s says level %d of %s", PROBE_NAME, level, "five");
        }
    }
}

#ifndef WITHOUT_REGISTER
int FLBPluginPreRegister(int hot_reloading)
{
    note("pre_register %d", hot_reloading);
    return getenv("PROBE_REFUSE_PRE_REGISTER") != NULL ? -1 : 0;
}

int FLBPluginRegister(struct definition *definition)
{
    note("register");
    if (getenv("PROBE_REFUSE_REGISTER") != NULL) {
        return -1;
    }
    definition->type = PROBE_TYPE;
    definition->proxy = 11;
    definition->name = strdup(PROBE_NAME);
    /* No text a host could count on. */
    definition->description = strdup("\xff\xfe probe \x01");
    definition->event_type = PROBE_EVENTS;
    return 0;
}
#endif

void FLBPluginUnregister(struct definition *definition)
{
    note("unregister");
    free(definition->name);
    free(definition->description);
}

int FLBPluginOutputPreRun(int hot_reload)
{
    note("pre_run %d", hot_reload);
    return ERROR;
}

int FLBPluginOutputPreExit(int hot_reload)
{
    note("pre_exit %d", hot_reload);
    return ERROR;
}

#ifdef UNDEFINED_SYMBOL
extern int a_symbol_that_nothing_has(void);
#endif

#ifndef WITHOUT_INIT
int FLBPluginInit(struct plugin *plugin)
{
    struct probe *probe = &probes[probe_count++ % INSTANCES_MAX];
    char text[512];

    memset(probe, 0, sizeof(*probe));
    get(plugin, "id", probe->id, sizeof(probe->id));
    note("init %s name %s", probe->id, plugin->name);
    get(plugin, "ask", text, sizeof(text));
    ask(plugin, text);
    get(plugin, "gate", probe->gate, sizeof(probe->gate));
    get(plugin, "dump", probe->dump, sizeof(probe->dump));
    get(plugin, "answers", probe->answers, sizeof(probe->answers));
    get(plugin, "exit", probe->exit, sizeof(probe->exit));
    probe->together = get_int(plugin, "together");
    probe->alone_ms = get_int(plugin, "alone_ms");
    if (get_int(plugin, "table")) {
        use_table(plugin);
    }
#ifdef UNDEFINED_SYMBOL
    a_symbol_that_nothing_has();
#endif
    get(plugin, "context", text, sizeof(text));
    if (strcmp(text, "null") == 0) {
        plugin->context->remote_context = NULL;
    } else if (strcmp(text, "one") == 0) {
        plugin->context->remote_context = (void *) 1;
    } else if (strcmp(text, "high") == 0) {
        plugin->context->remote_context = (void *) UINTPTR_MAX;
    } else {
        plugin->context->remote_context = probe;
    }
    get(plugin, "init", text, sizeof(text));
    if (strcmp(text, "unregister") == 0) {
        /* What some plugins do by mistake: the instance is not what Register was given. */
        FLBPluginUnregister((struct definition *) plugin);
        return ERROR;
    }
    if (strcmp(text, "hang") == 0) {
        note("init hangs");
        pause();
    }
    return text[0] != '\0' ? atoi(text) : OK;
}
#endif

/* The answer to the n-th flush: the list's last one stays. */
static int answer(struct probe *probe, int flush)
{
    const char *at = probe->answers;

    while (flush-- > 0 && strchr(at, ',') != NULL) {
        at = strchr(at, ',') + 1;
    }
    return *at != '\0' ? atoi(at) : OK;
}

static void enter(struct probe *probe)
{
    struct timespec until;

    pthread_mutex_lock(&lock);
    probe->flushes++;
    if (++probe->inside > probe->inside_max) {
        probe->inside_max = probe->inside;
    }
    if (++library_inside > library_inside_max) {
        library_inside_max = library_inside;
    }
    pthread_cond_broadcast(&moved);
    /* Once so many have been inside at once, nobody waits any more. */
    while (probe->inside_max < probe->together) {
        pthread_cond_wait(&moved, &lock);
    }
    /* Gives a second call this long to come: longer finds more, and nothing wrong is ever found. */
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += (long) probe->alone_ms * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (probe->alone_ms > 0 && library_inside_max < 2) {
        if (pthread_cond_timedwait(&moved, &lock, &until) == ETIMEDOUT) {
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

static int flush(struct probe *probe, const void *context, const void *data, int length, const char *tag)
{
    int number;
    int code;
    int fd;

    enter(probe);
    pthread_mutex_lock(&lock);
    number = probe->flushes - 1;
    code = answer(probe, number);
    pthread_mutex_unlock(&lock);
    note("flush %s context %p tag %s code %d", probe->id, context == probe ? (void *) 0x9 : context, tag, code);
    if (probe->gate[0] != '\0') {
        /* Opens when the test opens the other end. */
        fd = open(probe->gate, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            close(fd);
        }
    }
    if (probe->dump[0] != '\0' && code == OK) {
        fd = open(probe->dump, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (fd < 0 || write(fd, data, length) != length) {
            abort();
        }
        close(fd);
    }
    pthread_mutex_lock(&lock);
    probe->inside--;
    library_inside--;
    pthread_mutex_unlock(&lock);
    return code;
}

/* The instance a context means: odd contexts belong to the first one. */
static struct probe *of(void *context)
{
    struct probe *probe = context;

    return probe >= probes && probe < probes + INSTANCES_MAX ? probe : &probes[0];
}

#ifndef WITHOUT_CTX
int FLBPluginFlushCtx(void *context, const void *data, int length, const char *tag)
{
    return flush(of(context), context, data, length, tag);
}

int FLBPluginExitCtx(void *context)
{
    struct probe *probe = of(context);

    note("exit %s context %p flushes %d at once %d of library %d", probe->id,
         context == probe ? (void *) 0x9 : context, probe->flushes, probe->inside_max, library_inside_max);
    if (strcmp(probe->exit, "hang") == 0) {
        pause();
    }
    return OK;
}
#endif

#ifndef WITHOUT_PLAIN
int FLBPluginFlush(const void *data, int length, const char *tag)
{
    note("flush without context");
    return flush(&probes[0], NULL, data, length, tag);
}
#endif

#ifndef WITHOUT_EXIT
int FLBPluginExit(void)
{
    note("exit without context");
    return OK;
}
#endif
