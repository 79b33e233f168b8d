# fish completion for gx

# Jobs of the VM whose state begins so: one request.
function __gx_jobs
    gx --jobs 2>/dev/null </dev/null | awk -v state="$argv[1]" '
        index($2, state) == 1 {
            job = $1
            sub(/^ *[0-9]+ +(running|dead|exit [0-9]+) +[^ ]+ [^ ]+ +/, "")
            printf "%s\t%s\n", job, $0
        }'
end

# Is the command still to come?
function __gx_before_command
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if contains -- $word -c -C --control --attach --kill --env --timeout --url
            set skip 1
        else if not string match -q -- '-?*' $word; or test "$word" = --
            return 1
        end
    end
end

complete -c gx -n __gx_before_command -s c -x -d 'a line for the shell of the VM'
complete -c gx -n __gx_before_command -s v -l verbose -d 'list the files that it changed'
complete -c gx -n __gx_before_command -s h -l help -d 'show a help'
complete -c gx -n __gx_before_command -s V -l version -d 'show the version'
complete -c gx -n __gx_before_command -l control -x -d 'the control file of the mount'
complete -c gx -n __gx_before_command -l follow -d 'run it as a job'
complete -c gx -n __gx_before_command -l jobs -d 'list the jobs of this VM'
complete -c gx -n __gx_before_command -l clean -d 'forget the jobs that have ended'
complete -c gx -n __gx_before_command -l attach -x -a '(__gx_jobs "")' -d 'show the output of a job'
complete -c gx -n __gx_before_command -l kill -x -a '(__gx_jobs running)' -d 'end a job'
complete -c gx -n __gx_before_command -s i -d 'send also what is typed along'
complete -c gx -n __gx_before_command -s n -d 'no standard input'
complete -c gx -n __gx_before_command -s t -l terminal -d 'in a terminal of the VM'
complete -c gx -n __gx_before_command -s C -x -a '(__fish_complete_directories)' -d 'begin there'
complete -c gx -n __gx_before_command -l detach -d 'start a job and leave it'
complete -c gx -n __gx_before_command -l env -x -a '(set -nx)' -d 'a variable for the command'
complete -c gx -n __gx_before_command -l timeout -x -d 'end it after so many seconds'
complete -c gx -n __gx_before_command -l json -d 'tell all of it as one object'
complete -c gx -n __gx_before_command -l url -r -d 'the public address of a file'
complete -c gx -n __gx_before_command -l programs -d 'list the programs of the VM'
# The programs of the VM: one request a mount.
complete -c gx -n '__gx_before_command; and string match -qr "^[^-/]" -- (commandline -ct)' -a '(gx --programs 2>/dev/null </dev/null)'
