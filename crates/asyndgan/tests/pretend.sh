#!/bin/sh
# In place of the program: writes down which step it is asked for, then does what the run's folder tells.
for folder; do :; done
cd "$folder" || exit 2
if [ "$2" = --arm ]; then step="$1 $3"; else step=$1; fi
echo "$step" >> begun
. ./told
