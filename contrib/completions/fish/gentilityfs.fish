# fish completion for gentilityfs

# Rooms that are mounted, or that fstab or a unit's file names.
function __gentilityfs_sources
    set -q XDG_CONFIG_HOME; or set -l XDG_CONFIG_HOME ~/.config
    sed -n 's/.* - fuse\.gentilityfs \([^ ]*\) .*/\1/p' /proc/self/mountinfo 2>/dev/null
    sed -n 's/^[[:space:]]*\(gentilityfs#\)\{0,1\}\([0-9A-Fa-f-]\{36\}\/[^[:space:]]*\)[[:space:]].*/\2/p' /etc/fstab 2>/dev/null
    set -l files $XDG_CONFIG_HOME/gentilityfs/*.conf /etc/gentilityfs/*.conf
    sed -n 's/^SOURCE=//p' /dev/null $files
    __gentilityfs_rooms
end

# Rooms that the configuration names.
function __gentilityfs_rooms
    set -q XDG_CONFIG_HOME; or set -l XDG_CONFIG_HOME ~/.config
    sed -n 's/^[[:space:]]*\[\(.*\)\].*/\1/p' $XDG_CONFIG_HOME/gentilityfs/config /etc/gentilityfs/config 2>/dev/null
end

function __gentilityfs_mountpoints
    sed -n 's/^\([^ ]* \)\{4\}\([^ ]*\) .* - fuse\.gentilityfs .*/\2/p' /proc/self/mountinfo
end

function __gentilityfs_names
    printf '%s\t%s\n' \
        allow_other 'let other users in' \
        auto_unmount 'unmount when the program ends' \
        cache_dir= 'where contents are cached' \
        cache_size= 'how much of them (1G)' \
        cache_entries= 'names kept in memory' \
        cache_timeout= 'how long metadata is trusted (5)' \
        cacert= 'certificate authorities to trust' \
        control= 'name of the file that runs commands (.exec)' \
        create 'start the VM if there is none' \
        default_permissions 'let the kernel check permissions' \
        dirsync 'as for other file systems' \
        fsname= 'what the mount is called' \
        gid= 'show all files as of this group' \
        idmap=none 'show the owners that the room has' \
        idmap=user 'show the files of the user of the room as yours' \
        insecure_http 'allow http:// to another machine' \
        key_file= 'the key' \
        list_control 'list .exec in every directory' \
        log_file= 'the log' \
        max_connections= 'at a time (8)' \
        no_control 'no .exec' \
        no_list_control 'list .exec nowhere' \
        no_transform_symlinks 'leave absolute links as they are' \
        noatime 'as for other file systems' \
        noexec 'run no programs from the mount' \
        nonempty 'mount over a directory that is not empty' \
        ro read-only \
        rw read-write \
        sync 'as for other file systems' \
        timeout= 'give a stalled transfer up (30)' \
        transform_symlinks 'make absolute links stay in the mount' \
        uid= 'show all files as of this user' \
        umask= 'permissions taken away' \
        url= 'the service'
end

# The list before the last comma stays as it is.
function __gentilityfs_options
    set -l token (string replace -r '^-o' '' -- (commandline -ct))
    set -l before (string replace -r '[^,]*$' '' -- $token)
    set -l item (string replace -r '.*,' '' -- $token)
    switch $item
        case 'cache_dir=*' 'key_file=*' 'cacert=*' 'log_file=*'
            set -l name (string replace -r '=.*' '' -- $item)
            set -l value (string replace -r '^[^=]*=' '' -- $item)
            for path in $value*
                test -d $path; and set path $path/
                echo $before$name=$path
            end
        case '*'
            string match -qr '^(?!idmap).*=' -- $item; and return
            for line in (__gentilityfs_names)
                echo $before$line
            end
    end
end

# How many words are there that belong to no option?
function __gentilityfs_given
    set -l count 0
    set -l skip 0
    for word in (commandline -opc)[2..-1]
        if test $skip = 1
            set skip 0
        else if test "$word" = -o
            set skip 1
        else if not string match -q -- '-*' $word
            set count (math $count + 1)
        end
    end
    test $count = $argv[1]
end

# Is it about a mount that is there?
function __gentilityfs_stats
    set -l words (commandline -opc)
    contains -- --stats $words; or contains -- --unmount $words
end

complete -c gentilityfs -f
complete -c gentilityfs -n '__gentilityfs_given 0; and not __gentilityfs_stats' -a '(__gentilityfs_sources)' -d room
complete -c gentilityfs -n '__gentilityfs_given 0; and __gentilityfs_stats' -a '(__gentilityfs_mountpoints)' -d mount
complete -c gentilityfs -n '__gentilityfs_given 1; and not __gentilityfs_stats' -a '(__fish_complete_directories)'
complete -c gentilityfs -s o -x -a '(__gentilityfs_options)' -d options
complete -c gentilityfs -s d -d 'stay in the foreground and show each request'
complete -c gentilityfs -s f -d 'stay in the foreground'
complete -c gentilityfs -s s -d 'one request at a time'
complete -c gentilityfs -s h -l help -d 'show a help'
complete -c gentilityfs -s V -l version -d 'show the version'
complete -c gentilityfs -l check -d 'check the way to a room and what it can do'
complete -c gentilityfs -l stats -d 'show what a mount does'
complete -c gentilityfs -l list -d 'show what is mounted'
complete -c gentilityfs -l unmount -d 'unmount, and wait until all is sent'
complete -c gentilityfs -l all -d 'every mount of yours'
complete -c gentilityfs -l recovered -d 'show what could not be sent'
complete -c gentilityfs -l forget -d 'remove it'
complete -c gentilityfs -l json -d 'for programs'
complete -c gentilityfs -l prometheus -d 'in the form of Prometheus'
complete -c gentilityfs -l watch -d 'go on showing it'
