module parties

go 1.19
