#!/bin/sh
# Prints the warmest day of each town.
for file in *.csv; do
	sort -t , -k 2 -n -r "$file" | {
		IFS=, read -r day degrees
		echo "${file%.csv}: $degrees on $day"
	}
done
