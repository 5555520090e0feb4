/* What the files of the attacker share; `main.c` says what it does. */
#define _GNU_SOURCE
#include <signal.h>

/* What no command line that is seen inside may have. */
#define SECRET "secret-of-the-caller"

/* Kinds of success. */
enum kind {
    SEEN, SEIZED, UNFILTERED, MADE_TO_CALL, PARAMETER, VM_READ, VM_WRITTEN, MEM, MAPS, ENVIRON, EXE, ROOT, CWD, FD, NS, GETFD,
    CANARY, ARGUMENTS, SIGNALLED, KINDS
};

/* What a process is, as far as it lets itself be looked into. */
enum whose { GONE, THEIRS, HIDDEN, COMMANDS };

/* What it was told. */
extern const char *canary;
extern int tries_parameter, tries_arguments;
extern volatile sig_atomic_t over;

/* main.c */
double now(void);

/* race.c */
void success(enum kind kind, int pid);
int race(double seconds);
int leave_process_1_inside(void);

/* look.c: by the files of /proc, whose folder of a process `folder` is. */
void read_own_mounts(void);
enum whose whose(int folder);
int is_named_as_runner(int folder);
int has_secret(int folder, const char *path);
int is_unfiltered(int folder);
void try_files(int folder, int pid);
void try_descriptors(int folder, int pid);

/* seize.c */
int try_seize(int folder, int pid);
